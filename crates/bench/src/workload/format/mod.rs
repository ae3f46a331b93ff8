//! The formats of traces. Each reader takes one request after another and holds no more than a line.

mod binary;
mod csv;
mod json;
mod lines;
mod web_log;

use std::path::Path;

use super::{Request, TraceSource};
use crate::failure::{Failure, Result};
pub(crate) use csv::Columns;

/// The format of a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Lines `first_block blocks 0 request`, of the ARC paper (.lis).
    Arc,
    /// One number a line; lines with `*` are passed over (LIRS).
    Lirs,
    /// One key a line, any text.
    Plain,
    /// Big-endian numbers of 4 bytes (cache2k).
    Cache2k,
    /// Big-endian numbers of 8 bytes (Corda).
    Corda,
    /// libCacheSim oracleGeneral: time, key, bytes, next access, in 24 bytes.
    #[value(name = "oracle-general")]
    OracleGeneral,
    /// libCacheSim csv: `time,key,bytes[,op]`, with or without a header.
    #[value(name = "libcachesim-csv")]
    LibCacheSimCsv,
    /// A web log in common or combined format; the key is the path.
    WebLog,
    /// Comma- or tab-separated columns with a header; recordings of terrace, too.
    Csv,
    /// One JSON object a line; the key is a field, or each element of a field that is a list.
    JsonLines,
}

/// A reader of one format.
pub(crate) trait TraceReader: Send {
    /// The next request, or `None` at the end.
    fn next(&mut self) -> Result<Option<Request>>;
}

impl Format {
    /// The format that the name of a file tells, with the ending of its packing left out.
    pub(crate) fn of_name(path: &Path) -> Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        let packings = [".gz", ".xz", ".zst"];
        let bare = packings.iter().find_map(|packing| name.strip_suffix(packing)).unwrap_or(&name);
        let has = |endings: &[&str]| endings.iter().any(|ending| bare.ends_with(ending));
        Ok(match () {
            () if has(&[".lis"]) => Self::Arc,
            () if has(&[".oraclegeneral", ".oraclegeneral.bin"]) => Self::OracleGeneral,
            () if name.ends_with(".trace.xz") => Self::Cache2k,
            () if bare.starts_with("trace_vaultservice") => Self::Corda,
            () if has(&[".trace"]) => Self::Lirs,
            () if has(&[".jsonl", ".ndjson"]) => Self::JsonLines,
            () if has(&[".csv", ".tsv"]) => Self::Csv,
            () if has(&[".log"]) || bare.contains("access_log") => Self::WebLog,
            () if has(&[".txt", ".keys"]) => Self::Plain,
            () => {
                return Err(Failure::new(format_args!(
                    "{}: its name tells no format; give one with --format (terrace-bench run --help lists them)",
                    path.display()
                )));
            }
        })
    }

    /// A reader of the trace.
    pub(crate) fn reader(self, source: TraceSource, columns: &Columns) -> Result<Box<dyn TraceReader>> {
        Ok(match self {
            Self::Arc => Box::new(lines::Arc::new(source)),
            Self::Lirs => Box::new(lines::Lirs::new(source)),
            Self::Plain => Box::new(lines::Plain::new(source)),
            Self::Cache2k => Box::new(binary::Numbers::<4>::new(source)),
            Self::Corda => Box::new(binary::Numbers::<8>::new(source)),
            Self::OracleGeneral => Box::new(binary::OracleGeneral::new(source)),
            Self::LibCacheSimCsv => Box::new(csv::Csv::lib_cache_sim(source)?),
            Self::WebLog => Box::new(web_log::WebLog::new(source)),
            Self::Csv => Box::new(csv::Csv::with_header(source, columns)?),
            Self::JsonLines => Box::new(json::JsonLines::new(source, columns)),
        })
    }
}

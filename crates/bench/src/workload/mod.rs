//! Workloads: requests from a trace or from a generator, one after another.

mod format;
mod mix;
mod parameters;
mod request;
mod sizes;
mod source;
mod summary;
mod synthetic;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use crate::failure::{Failure, Result, refuse};
use format::TraceReader;
pub(crate) use format::{Columns, Format};
pub(crate) use mix::Mix;
pub(crate) use request::{Action, Request};
pub(crate) use sizes::Sizes;
pub(crate) use source::TraceSource;
pub(crate) use summary::Summary;
use synthetic::Synthetic;

/// Where requests come from, as options of a command.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Workload {
    /// A trace to replay; `-` reads standard input. Packed files (.gz, .xz, .zst) are read directly
    #[arg(value_name = "TRACE", required_unless_present = "synthetic", help_heading = "Workload")]
    pub(crate) trace: Option<PathBuf>,
    /// The format of the trace, where its name does not tell it
    #[arg(long, value_enum, help_heading = "Workload")]
    pub(crate) format: Option<Format>,
    #[command(flatten)]
    pub(crate) columns: Columns,
    /// Generated keys in place of a trace: zipf:keys=100000,exponent=0.99 | uniform:keys=N | loop:keys=N | scan |
    /// hot-set:keys=N,hot=100,share=0.9,every=10000
    #[arg(long, conflicts_with = "trace", value_name = "KIND", help_heading = "Workload")]
    pub(crate) synthetic: Option<Synthetic>,
    /// How many requests to make at most; a generator makes a million unless set
    #[arg(long, value_name = "N", help_heading = "Workload")]
    pub(crate) requests: Option<u64>,
    /// The sizes of values whose size the trace does not say: 200 | 100..4000 | exponential:500 | FILE, a
    /// histogram as JSON of CacheLib
    #[arg(long, default_value = "200", value_name = "BYTES", help_heading = "Workload")]
    pub(crate) sizes: Sizes,
    /// Turns a share of the reads into other actions: read=90,write=8,remove=1,invalidate=1
    #[arg(long, value_name = "SHARES", help_heading = "Workload")]
    pub(crate) mix: Option<Mix>,
    /// The seed of everything that is drawn at random
    #[arg(long, default_value_t = 1, help_heading = "Workload")]
    pub(crate) seed: u64,
}

/// How many requests a generator makes unless the user says so.
const SYNTHETIC_REQUESTS: u64 = 1_000_000;

impl Workload {
    /// A generator, for measurements of the tool itself.
    pub(crate) fn generated(kind: &str, requests: u64) -> Result<Self> {
        #[derive(clap::Parser)]
        struct Options {
            #[command(flatten)]
            workload: Workload,
        }
        let requests = requests.to_string();
        let words = ["workload", "--synthetic", kind, "--requests", &requests];
        let parsed = <Options as clap::Parser>::try_parse_from(words).map_err(Failure::new)?;
        Ok(parsed.workload)
    }

    /// Begins to read the requests anew.
    ///
    /// # Errors
    /// A file that is missing, or that has no known format.
    pub(crate) fn open(&self) -> Result<Requests> {
        let (reader, limit): (Box<dyn TraceReader>, _) = match (&self.trace, &self.synthetic) {
            (_, Some(synthetic)) => (synthetic.reader(self.seed), SYNTHETIC_REQUESTS),
            (Some(path), None) => {
                let format = match self.format {
                    Some(format) => format,
                    None if path.as_os_str() == "-" => Format::Plain,
                    None => Format::of_name(path)?,
                };
                (format.reader(TraceSource::open(path)?, &self.columns)?, u64::MAX)
            }
            (None, None) => refuse!("give a trace, or --synthetic"),
        };
        let random = fastrand::Rng::with_seed(self.seed ^ 0x6d69_7865);
        let left = self.requests.unwrap_or(limit);
        Ok(Requests { reader, left, taken: 0, sizes: self.sizes.clone(), mix: self.mix, random })
    }

    /// Whether the workload can be read only once.
    pub(crate) fn is_standard_input(&self) -> bool {
        self.trace.as_ref().is_some_and(|path| path.as_os_str() == "-")
    }

    /// Whether the workload has no end of its own, and a row of it ends with its time.
    pub(crate) fn is_endless(&self, time: Option<std::time::Duration>) -> bool {
        self.synthetic.is_some() && self.requests.is_none() && time.is_some()
    }

    /// The name of the workload for people.
    pub(crate) fn name(&self) -> String {
        match (&self.trace, &self.synthetic) {
            (Some(path), _) => path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
            (None, Some(synthetic)) => synthetic.to_string(),
            (None, None) => "nothing".to_owned(),
        }
    }
}

/// The requests of a workload, in order. The memory in use does not grow with their number.
pub(crate) struct Requests {
    reader: Box<dyn TraceReader>,
    left: u64,
    taken: u64,
    sizes: Sizes,
    mix: Option<Mix>,
    random: fastrand::Rng,
}

impl Requests {
    /// The next request, or `None` at the end.
    ///
    /// # Errors
    /// A trace that is empty, cut or of another format: one line with the file and the position.
    pub(crate) fn next(&mut self) -> Result<Option<Request>> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(mut request) = self.reader.next()? else {
            return match self.taken {
                0 => Err(Failure::new("the trace is empty: it has no request")),
                _ => Ok(None),
            };
        };
        self.left -= 1;
        self.taken += 1;
        if request.bytes == 0 {
            request.bytes = self.sizes.of(request.key);
        }
        if let (Some(mix), Action::Read) = (&self.mix, request.action) {
            request.action = mix.draw(&mut self.random);
        }
        Ok(Some(request))
    }
}

/// The folder with real traces, for tests. It says that a test was left out where the variable is not set.
#[cfg(test)]
pub(crate) fn data_folder() -> Option<PathBuf> {
    let folder = std::env::var_os("TERRACE_DATA").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("left out: TERRACE_DATA is not set");
    }
    folder
}

/// The keys of a trace whose name tells its format.
#[cfg(test)]
pub(crate) fn keys_of(path: &std::path::Path) -> Vec<u64> {
    let format = Format::of_name(path).unwrap();
    let columns = Columns { key_column: None, size_column: None, action_column: None };
    let mut reader = format.reader(TraceSource::open(path).unwrap(), &columns).unwrap();
    std::iter::from_fn(|| reader.next().unwrap()).map(|request| request.key).collect()
}

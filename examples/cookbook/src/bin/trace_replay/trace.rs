//! Reads a trace: the keys of real requests, in order.
//!
//! Two formats are read. A line of the traces of the ARC paper is `start_block n_blocks 0 request` and
//! stands for n keys. A line of the LIRS traces is one key; lines of `*` are skipped. A file may be
//! plain, `.gz` or `.zst`.

use std::{
    collections::HashSet,
    fs::File,
    io::{BufRead, BufReader, Error, ErrorKind, Read, Result},
    path::Path,
};

/// The keys, in the order of the requests.
pub(crate) fn read(path: &Path) -> Result<Vec<u64>> {
    let with_path = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    let mut keys = Vec::new();
    for line in BufReader::new(open(path).map_err(with_path)?).lines() {
        let line = line.map_err(with_path)?;
        if !line.trim().is_empty() && !line.starts_with('*') {
            let request = request(&line).ok_or_else(|| Error::new(ErrorKind::InvalidData, line.clone()));
            let (first, count) = request.map_err(with_path)?;
            keys.extend(first..first.saturating_add(count));
        }
    }
    Ok(keys)
}

/// Generates a small trace, in which some blocks are requested much more often than others.
pub(crate) fn generated() -> Vec<u64> {
    let mut state = 42u64;
    let mut request = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let part = (state >> 11) as f64 / (1u64 << 53) as f64;
        20_000f64.powf(part) as u64
    };
    (0..30_000).map(|_| request()).collect()
}

/// How many distinct keys the trace has.
pub(crate) fn distinct(trace: &[u64]) -> usize {
    trace.iter().collect::<HashSet<_>>().len()
}

fn open(path: &Path) -> Result<Box<dyn Read>> {
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|name| name.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(file)),
        Some("zst") => Box::new(ruzstd::decoding::StreamingDecoder::new(file).map_err(Error::other)?),
        _ => Box::new(file),
    })
}

/// The first key of a line and the number of consecutive keys.
fn request(line: &str) -> Option<(u64, u64)> {
    let mut numbers = line.split_ascii_whitespace().map(str::parse::<u64>);
    let first = numbers.next()?.ok()?;
    match numbers.next() {
        Some(count) => Some((first, count.ok()?)),
        None => Some((first, 1)),
    }
}

//! `terrace-bench generate`: writes a workload to standard output, one key a line.

use std::io::{BufWriter, ErrorKind, Write};

use crate::{
    failure::{Failure, Result},
    workload::Workload,
};

/// Writes the keys of a workload to standard output, one a line, for this tool or for another
#[derive(Debug, clap::Args)]
pub(crate) struct GenerateCommand {
    #[command(flatten)]
    workload: Workload,
    /// The least length of a key; shorter ones get zeros in front
    #[arg(long, default_value_t = 1, value_name = "BYTES")]
    key_bytes: usize,
    /// Ends after this many bytes
    #[arg(long, value_name = "BYTES")]
    bytes: Option<u64>,
}

impl GenerateCommand {
    /// Writes until the workload ends, or the reader of the output goes away.
    pub(crate) fn run(&self) -> Result<()> {
        match self.write() {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Err(error) => Err(Failure::new(format_args!("standard output: {error}"))),
        }
    }

    fn write(&self) -> std::io::Result<Result<()>> {
        let mut output = BufWriter::with_capacity(1 << 20, std::io::stdout().lock());
        let mut requests = match self.workload.open() {
            Ok(requests) => requests,
            Err(failure) => return Ok(Err(failure)),
        };
        let (mut left, mut line) = (self.bytes.unwrap_or(u64::MAX), Vec::new());
        loop {
            match requests.next() {
                Ok(Some(request)) if left > 0 => {
                    line.clear();
                    writeln!(line, "{:0width$}", request.key, width = self.key_bytes)?;
                    left = left.saturating_sub(line.len() as u64);
                    output.write_all(&line)?;
                }
                Ok(_) => return output.flush().map(Ok),
                Err(failure) => return Ok(Err(failure)),
            }
        }
    }
}

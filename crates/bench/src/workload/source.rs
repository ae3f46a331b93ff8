//! The bytes of a trace: a file or standard input, unpacked as it is read.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use crate::failure::{Failure, Result};

/// How much is read at a time.
const BUFFER_BYTES: usize = 256 << 10;

/// The longest line of a trace. A longer one is refused, so that a binary file is no endless line.
const MAX_LINE_BYTES: usize = 1 << 20;

/// A trace that is being read, with the position for errors.
pub(crate) struct TraceSource {
    input: Box<dyn BufRead + Send>,
    path: PathBuf,
    /// The bytes read so far, after unpacking.
    offset: u64,
    /// The lines read so far.
    line: u64,
}

impl TraceSource {
    /// Opens a file, or standard input for `-`. What the file begins with says how it is packed.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let fault = |error: io::Error| Failure::new(format_args!("{}: {error}", path.display()));
        let raw: Box<dyn Read + Send> = match path.as_os_str() == "-" {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(fault)?),
        };
        let mut packed = BufReader::with_capacity(BUFFER_BYTES, raw);
        let head = packed.fill_buf().map_err(fault)?;
        let unpacked: Box<dyn Read + Send> =
            if head.starts_with(&[0x1f, 0x8b]) {
                Box::new(flate2::read::MultiGzDecoder::new(packed))
            } else if head.starts_with(b"\xfd7zXZ\0") {
                Box::new(lzma_rust2::XzReader::new(packed, true))
            } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
                Box::new(ruzstd::decoding::StreamingDecoder::new(packed).map_err(|error| {
                    Failure::new(format_args!("{}: no zstd stream: {error}", path.display()))
                })?)
            } else {
                return Ok(Self { input: Box::new(packed), path: path.to_owned(), offset: 0, line: 0 });
            };
        let input = Box::new(BufReader::with_capacity(BUFFER_BYTES, unpacked));
        Ok(Self { input, path: path.to_owned(), offset: 0, line: 0 })
    }

    /// Reads the next line into `line`, without its end. The result is `false` at the end of the trace.
    pub(crate) fn next_line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        line.clear();
        let limited = &mut (&mut self.input).take(MAX_LINE_BYTES as u64);
        let read = limited.read_until(b'\n', line).map_err(|error| self.broken(&error))?;
        self.offset += read as u64;
        self.line += u64::from(read > 0);
        if read == MAX_LINE_BYTES {
            return Err(self.fault("a line of more than 1 MiB: is it a text file?"));
        }
        while line.last().is_some_and(|last| matches!(last, b'\n' | b'\r')) {
            line.pop();
        }
        Ok(read > 0)
    }

    /// Fills `record`. The result is `false` at the end of the trace, and an error in the middle of a record.
    pub(crate) fn next_record(&mut self, record: &mut [u8]) -> Result<bool> {
        let mut filled = 0;
        while filled < record.len() {
            match self.input.read(&mut record[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => {
                    let why = format!(
                        "the file ends in the middle of a record of {} bytes: it is cut, or has another format",
                        record.len()
                    );
                    return Err(self.fault(why));
                }
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.broken(&error)),
            }
        }
        self.offset += filled as u64;
        Ok(true)
    }

    /// A fault of the trace at the position that was read last.
    pub(crate) fn fault(&self, why: impl std::fmt::Display) -> Failure {
        match self.line {
            0 => Failure::new(format_args!("{} at byte {}: {why}", self.path.display(), self.offset)),
            line => Failure::new(format_args!("{} line {line}: {why}", self.path.display())),
        }
    }

    fn broken(&self, error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => self.fault("the packed file ends in the middle: it is cut"),
            _ => self.fault(format_args!("cannot be read or unpacked ({error}): it may be cut or damaged")),
        }
    }
}

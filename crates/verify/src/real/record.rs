//! What a round writes down, line by line, and the file that keeps it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    path::Path,
};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use terrace_simulation::history::{At, End, Key, Process, Read, Value, Wish};

use super::plan::{Fault, Plan};

/// One thing that a worker or the driver saw. A worker that is killed has written down what it did before.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Line {
    /// A worker has its cache and begins.
    Ready { process: Process },
    /// A caller of a worker begins something new, and has ended what it did before.
    Begins { process: Process, caller: u64, at: At },
    /// A read was answered.
    Read(Read),
    /// A read failed with a typed error, which is no answer.
    ReadFailed,
    /// A write begins.
    Writes { process: Process, id: u64, key: Option<Key>, call: At, wish: Wish },
    /// A write has returned.
    Wrote { process: Process, id: u64, ret: At, end: End, confirmed: bool, version: Option<u64> },
    /// A change of the watched table was acknowledged.
    Stored { value: u64, ret: At },
    /// A trigger saw this change of the truth, in the same transaction; changes of a key are in order.
    Changed { key: Key, since: At, value: Value, version: u64, by: Process },
    /// All changes were read from the truth at this moment.
    Told { at: At },
    /// The last state of the truth.
    Final(Read),
    /// Redis has got back the data that it had before.
    WentBack { at: At },
    /// A worker was killed, and is dead by now.
    Died { process: Process, at: At },
    /// Something went wrong.
    Struck { fault: Fault, from: At, to: At },
    /// A worker has read every key once more and ends.
    Done { process: Process },
}

/// Everything that was recorded of a round.
pub(crate) struct Recording {
    pub(crate) plan: Plan,
    pub(crate) lines: Vec<Line>,
}

impl Recording {
    pub(crate) fn save(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        serde_json::to_writer(&mut file, &self.plan)?;
        for line in &self.lines {
            file.write_all(b"\n")?;
            serde_json::to_writer(&mut file, line)?;
        }
        file.flush()
    }

    pub(crate) fn load(path: &Path) -> io::Result<Self> {
        let mut lines = BufReader::new(File::open(path)?).lines();
        let plan = lines.next().ok_or(io::ErrorKind::UnexpectedEof)??;
        let plan = serde_json::from_str(&plan)?;
        let lines: io::Result<Vec<Line>> = lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect();
        Ok(Self { plan, lines: lines? })
    }
}

/// Now, on the clock that all processes of a machine share and nobody sets.
pub(crate) fn now() -> At {
    nanos(ClockId::Monotonic)
}

/// Now, on the clock that Postgres reads.
pub(crate) fn wall_now() -> At {
    nanos(ClockId::Realtime)
}

fn nanos(clock: ClockId) -> At {
    let time = clock_gettime(clock);
    let nanos = time.tv_sec.saturating_mul(1_000_000_000).saturating_add(time.tv_nsec);
    At(u64::try_from(nanos).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recording_is_read_back_as_it_was() {
        let lines = vec![
            Line::Writes { process: 3, id: 1, key: None, call: At(7), wish: Wish::Invalidate },
            Line::Struck { fault: Fault::Evicted, from: At(1), to: At(2) },
        ];
        let recording = Recording { plan: Plan::of_seed(5), lines };
        let file = std::env::temp_dir().join(format!("terrace-recording-{}", std::process::id()));
        recording.save(&file).unwrap();
        let read = Recording::load(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(read.plan, recording.plan);
        assert_eq!(format!("{:?}", read.lines), format!("{:?}", recording.lines));
    }
}

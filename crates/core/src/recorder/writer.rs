//! The file of a recorder, and the thread that writes it.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};

use super::{Recorded, RecordedOp};

/// The most requests that wait for the disk.
const MAX_WAITING: usize = 65_536;

/// How often the waiting requests are written.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest line: a time, an operation and a hash of 20 digits each, with commas.
const MAX_LINE_BYTES: u64 = 64;

/// A running file.
pub(super) struct Writer {
    began: Instant,
    waiting: Arc<Waiting>,
    thread: Option<JoinHandle<io::Result<Recorded>>>,
}

#[derive(Default)]
struct Waiting {
    queue: Mutex<Queue>,
    /// Wakes the thread early, at the end.
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    requests: Vec<(u64, RecordedOp, u64)>,
    left_out: u64,
    is_over: bool,
    /// Whether the thread takes no more: the file is full, or an error has ended it.
    is_closed: bool,
}

impl Writer {
    /// Makes the file and starts the thread.
    pub(super) fn start(path: &Path, one_in: u32, max_bytes: u64) -> io::Result<Self> {
        let mut file = Counting { file: BufWriter::new(File::create(path)?), bytes: 0 };
        writeln!(file, "# terrace recording: one key in {one_in}; keys are hashes, times are microseconds")?;
        writeln!(file, "micros,op,key")?;
        let waiting = Arc::<Waiting>::default();
        let shared = Arc::clone(&waiting);
        let write = move || {
            let written = write_all(&shared, file, max_bytes);
            shared.queue.lock().is_closed = true;
            written
        };
        let thread = std::thread::Builder::new().name("terrace-recorder".to_owned()).spawn(write)?;
        Ok(Self { began: Instant::now(), waiting, thread: Some(thread) })
    }

    /// Takes a request. The result is `false` once the file takes no more.
    pub(super) fn keep(&self, op: RecordedOp, hash: u64) -> bool {
        let micros = self.began.elapsed().as_micros() as u64;
        let mut queue = self.waiting.queue.lock();
        match queue.requests.len() < MAX_WAITING {
            true => queue.requests.push((micros, op, hash)),
            false => queue.left_out += 1,
        }
        !queue.is_closed
    }

    /// Writes what waits, and ends the file.
    pub(super) fn end(mut self) -> io::Result<Recorded> {
        self.finish();
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .and_then(Result::ok)
            .unwrap_or_else(|| Err(io::Error::other("the thread of the recorder ended")))
    }

    fn finish(&self) {
        self.waiting.queue.lock().is_over = true;
        self.waiting.changed.notify_all();
    }
}

/// The thread writes what waits, and then ends by itself.
impl Drop for Writer {
    fn drop(&mut self) {
        self.finish();
    }
}

fn write_all(waiting: &Waiting, mut file: Counting, max_bytes: u64) -> io::Result<Recorded> {
    let mut recorded = Recorded::default();
    let mut requests = Vec::new();
    loop {
        let (is_over, left_out) = {
            let mut queue = waiting.queue.lock();
            if !queue.is_over {
                waiting.changed.wait_for(&mut queue, PAUSE);
            }
            std::mem::swap(&mut queue.requests, &mut requests);
            (queue.is_over, queue.left_out)
        };
        for (micros, op, hash) in requests.drain(..) {
            if file.bytes + 2 * MAX_LINE_BYTES > max_bytes {
                recorded.is_full = true;
                break;
            }
            let op = match op {
                RecordedOp::Get => "get",
                RecordedOp::Put => "put",
                RecordedOp::Remove => "remove",
                RecordedOp::Invalidate => "invalidate",
            };
            writeln!(file, "{micros},{op},{hash}")?;
            recorded.requests += 1;
        }
        if is_over || recorded.is_full {
            writeln!(file, "# {left_out} requests were left out")?;
            file.flush()?;
            return Ok(Recorded { left_out, bytes: file.bytes, ..recorded });
        }
        file.flush()?;
    }
}

/// A file that counts its bytes.
struct Counting {
    file: BufWriter<File>,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

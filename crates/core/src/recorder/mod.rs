//! A recorder writes which keys a cache is asked for, so that `terrace-bench` can replay them.

mod writer;

use std::{
    fmt,
    hash::{BuildHasher, Hash},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use foldhash::fast::FixedState;
use parking_lot::Mutex;

use writer::Writer;

use crate::{Error, ErrorKind, Result};

/// Records the requests of caches in a file, while it is switched on.
///
/// The file is CSV: the time in microseconds since the start, the operation (`get`, `put`, `remove`,
/// `invalidate`), and a hash of the key. It has no key and no value. The hash begins with a random number that
/// is not in the file, so that equal keys have equal hashes within one file alone. It is no encryption: who can
/// make the caches record known keys can find their hashes.
///
/// A recorder is a handle: clones share the file and the switch. It is off at first. A process that ends
/// without [`stop`](Recorder::stop) may lose the last tenth of a second.
///
/// # Bounds
/// The file has at most [`max_bytes`](Recorder::max_bytes), 64 MiB unless set; recording ends there. At most
/// 65,536 requests wait for the disk; further ones are left out and counted.
///
/// # Cost
/// A cache without a recorder pays nothing. While a recorder is off, a request costs one comparison more. While
/// it is on, a request hashes its key; one in [`one_in`](Recorder::one_in) also takes a lock. A thread writes
/// the file.
///
/// ```
/// use terrace_core::{Cache, NoNear, Recorder};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("requests.csv");
/// let recorder = Recorder::new(&path).one_in(1);
/// let users: Cache<u64, String, NoNear> = Cache::builder("users").record(&recorder).build()?;
/// recorder.start()?; // for instance from a command of the operators
/// users.get(&7).await?;
/// let recorded = recorder.stop()?;
/// assert_eq!(recorded.requests, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Recorder {
    state: Arc<State>,
    one_in: u32,
    max_bytes: u64,
}

struct State {
    path: PathBuf,
    is_on: AtomicBool,
    writer: Mutex<Option<Writer>>,
    hasher: FixedState,
}

/// What a recorder has written between its start and its stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// The requests in the file.
    pub requests: u64,
    /// The requests of recorded keys that were left out, because the disk was too slow.
    pub left_out: u64,
    /// The length of the file.
    pub bytes: u64,
    /// Whether the file reached its bound before the recorder was stopped.
    pub is_full: bool,
}

/// What a recorded request did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordedOp {
    Get,
    Put,
    Remove,
    Invalidate,
}

const MAX_BYTES: u64 = 64 << 20;

impl Recorder {
    /// A recorder that is off and writes one key in 100, with all requests of that key.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let state = State {
            path: path.as_ref().to_owned(),
            is_on: AtomicBool::new(false),
            writer: Mutex::new(None),
            hasher: FixedState::with_seed(fastrand::u64(..)),
        };
        Self { state: Arc::new(state), one_in: 100, max_bytes: MAX_BYTES }
    }

    /// Records one key in `keys`, and all requests of it: 1 records all. A cache takes the number that its
    /// recorder had when it was given.
    #[must_use]
    pub fn one_in(mut self, keys: u32) -> Self {
        self.one_in = keys.max(1);
        self
    }

    /// Sets the most bytes of the file, at least 4 KiB.
    #[must_use]
    pub fn max_bytes(mut self, bytes: u64) -> Self {
        self.max_bytes = bytes.max(4 << 10);
        self
    }

    /// Begins a new file in place of an older one, and switches the recorder on. A recorder that is on goes on.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the path if the file cannot be made.
    pub fn start(&self) -> Result<()> {
        let mut writer = self.state.writer.lock();
        if writer.is_none() {
            let begun = Writer::start(&self.state.path, self.one_in, self.max_bytes);
            *writer = Some(begun.map_err(|error| self.fault("cannot be made", &error))?);
        }
        self.state.is_on.store(true, Ordering::Release);
        Ok(())
    }

    /// Switches the recorder off, and waits until the file is complete. A later start begins a new file.
    ///
    /// # Errors
    /// [`ErrorKind::Backend`] with the path if the file could not be written. A recorder that is off has written
    /// nothing.
    ///
    /// # Cost
    /// The call blocks its thread while the last requests are written, for some milliseconds.
    pub fn stop(&self) -> Result<Recorded> {
        self.state.is_on.store(false, Ordering::Release);
        let Some(writer) = self.state.writer.lock().take() else { return Ok(Recorded::default()) };
        writer.end().map_err(|error| self.fault("cannot be written", &error))
    }

    /// Whether the recorder is on. It switches itself off where the file is full, or cannot be written.
    pub fn is_on(&self) -> bool {
        self.state.is_on.load(Ordering::Relaxed)
    }

    /// Notes a request, if the recorder is on and the key is one of the recorded ones.
    #[inline]
    pub(crate) fn note<Q: Hash + ?Sized>(&self, op: RecordedOp, key: &Q) {
        if self.is_on() {
            let hash = self.state.hasher.hash_one(key);
            // The upper half of the hash decides: a multiplication is quicker than a division.
            if (hash >> 32) * u64::from(self.one_in) <= u64::from(u32::MAX) {
                self.keep(op, hash);
            }
        }
    }

    #[cold]
    fn keep(&self, op: RecordedOp, hash: u64) {
        let writer = self.state.writer.lock();
        let goes_on = writer.as_ref().is_some_and(|writer| writer.keep(op, hash));
        if !goes_on {
            self.state.is_on.store(false, Ordering::Release);
        }
    }

    fn fault(&self, what: &str, error: &std::io::Error) -> Error {
        let message = format!("the recording {} {what}: {error}", self.state.path.display());
        Error::new(if what.ends_with("made") { ErrorKind::Config } else { ErrorKind::Backend }, message)
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("path", &self.state.path)
            .field("is_on", &self.is_on())
            .field("one_in", &self.one_in)
            .finish_non_exhaustive()
    }
}

//! One call of upstream that is under way, which any number of callers read from its beginning.

use std::{collections::HashMap, sync::Arc, time::Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use terrace::{Cached, Digest, Error, ErrorKind, Result};
use tokio::sync::watch;

use super::answer::Answer;

/// The most bytes of one answer in memory. A longer answer ends with an error.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What the first line of an answer says.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
}

/// Where an answer comes from, once that is known.
#[derive(Clone)]
pub(crate) enum Begun {
    /// Upstream answers.
    Upstream(Head),
    /// The cache has the answer after all.
    Kept(Cached<Answer>),
    Failed(Error),
}

/// The parts of an answer, and who waits for more of them.
///
/// A part that was added stays until the last reader is gone, so that a late reader gets all of them. The end is set
/// once; a recording whose writer goes away without one ends with an error.
pub(crate) struct Recording {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    began: Instant,
}

#[derive(Default)]
struct State {
    begun: Option<Begun>,
    parts: Vec<(u32, Bytes)>,
    bytes: usize,
    /// How upstream ended, before the callers are told.
    upstream_ended: Option<Result<()>>,
    end: Option<Result<()>>,
    joined: u64,
}

/// The next part of a recording.
pub(crate) enum Next {
    Part(Bytes),
    End(Result<()>),
}

impl Recording {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), changed: watch::Sender::new(()), began: Instant::now() })
    }

    /// Says where the answer comes from, unless that is known already.
    pub(crate) fn begin(&self, begun: Begun) {
        self.state.lock().begun.get_or_insert(begun);
        self.changed.send_replace(());
    }

    /// Adds a part.
    ///
    /// # Errors
    /// [`ErrorKind::TooLarge`] for an answer that is longer than any may be.
    pub(crate) fn push(&self, part: Bytes) -> Result<()> {
        let mut state = self.state.lock();
        state.bytes += part.len();
        if state.bytes > MAX_BYTES {
            return Err(Error::new(ErrorKind::TooLarge, "the answer of upstream is longer than 64 MiB"));
        }
        state.parts.push((self.elapsed_ms(), part));
        drop(state);
        self.changed.send_replace(());
        Ok(())
    }

    /// Notes how upstream ended. The callers are told by [`end`](Self::end), when the cache has taken the answer.
    pub(crate) fn upstream_ended(&self, end: Result<()>) {
        self.state.lock().upstream_ended.get_or_insert(end);
    }

    /// Takes how upstream ended, if it did.
    pub(crate) fn take_upstream_end(&self) -> Option<Result<()>> {
        self.state.lock().upstream_ended.take()
    }

    /// Ends the answer, unless it has ended.
    pub(crate) fn end(&self, end: Result<()>) {
        let mut state = self.state.lock();
        if let (None, Err(error)) = (&state.begun, &end) {
            state.begun = Some(Begun::Failed(error.clone()));
        }
        state.end.get_or_insert(end);
        drop(state);
        self.changed.send_replace(());
    }

    /// The parts so far, with the ms from the beginning to each.
    pub(crate) fn parts(&self) -> Vec<(u32, Bytes)> {
        self.state.lock().parts.clone()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }

    pub(crate) fn elapsed_ms(&self) -> u32 {
        u32::try_from(self.began.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// How many callers have joined the call of another one.
    pub(crate) fn joined(&self) -> u64 {
        self.state.lock().joined
    }

    /// Waits until it is known where the answer comes from.
    pub(crate) async fn begun(&self) -> Begun {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(begun) = &self.state.lock().begun {
                return begun.clone();
            }
            // The sender is a field of this recording, so that the channel is open.
            let _ = changes.changed().await;
        }
    }

    /// The part with the number `at`, or the end behind the last part.
    pub(crate) async fn next(&self, at: usize) -> Next {
        let mut changes = self.changed.subscribe();
        loop {
            {
                let state = self.state.lock();
                match (state.parts.get(at), &state.end) {
                    (Some((_, part)), _) => return Next::Part(part.clone()),
                    (None, Some(end)) => return Next::End(end.clone()),
                    (None, None) => {}
                }
            }
            let _ = changes.changed().await;
        }
    }
}

/// The calls of this process that are under way: one for each tenant and key.
#[derive(Default)]
pub(crate) struct LiveRecordings(Mutex<HashMap<(String, Digest), Arc<Recording>>>);

impl LiveRecordings {
    /// Joins the recording of a key, if its call is under way.
    pub(crate) fn get(&self, tenant: &str, key: &Digest) -> Option<Arc<Recording>> {
        let live = self.0.lock();
        // Nearly always empty: a hit allocates nothing for this look.
        if live.is_empty() { None } else { live.get(&(tenant.to_owned(), *key)).map(joined) }
    }

    /// The recording of a key, which is new if the guard is given: its holder makes the call.
    pub(crate) fn join_or_begin(
        self: &Arc<Self>,
        tenant: &str,
        key: &Digest,
    ) -> (Arc<Recording>, Option<RecordingGuard>) {
        let slot = (tenant.to_owned(), *key);
        let mut live = self.0.lock();
        if let Some(recording) = live.get(&slot) {
            return (joined(recording), None);
        }
        let recording = Recording::new();
        live.insert(slot.clone(), Arc::clone(&recording));
        let place = Some((Arc::clone(self), slot));
        (Arc::clone(&recording), Some(RecordingGuard { recording, place }))
    }
}

/// Counts under the lock of the table, so that no caller joins uncounted once the recording has left it.
fn joined(recording: &Arc<Recording>) -> Arc<Recording> {
    recording.state.lock().joined += 1;
    Arc::clone(recording)
}

/// The right to make the call of a recording. When it is dropped, the recording has ended and is no longer joined.
pub(crate) struct RecordingGuard {
    pub(crate) recording: Arc<Recording>,
    place: Option<(Arc<LiveRecordings>, (String, Digest))>,
}

impl RecordingGuard {
    /// A recording that nobody joins.
    pub(crate) fn alone() -> Self {
        Self { recording: Recording::new(), place: None }
    }

    /// Lets nobody else join.
    pub(crate) fn leave(&mut self) {
        if let Some((live, slot)) = self.place.take() {
            live.0.lock().remove(&slot);
        }
    }
}

impl Drop for RecordingGuard {
    fn drop(&mut self) {
        self.leave();
        let message =
            "the call of upstream ended early: it took longer than its deadline, or its task was stopped";
        self.recording.end(Err(Error::new(ErrorKind::Timeout, message)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_late_reader_gets_all_parts_and_the_end() {
        let recording = Recording::new();
        recording.push(Bytes::from_static(b"a")).unwrap();
        recording.push(Bytes::from_static(b"b")).unwrap();
        recording.end(Ok(()));
        recording.end(Err(Error::config("a second end")));
        assert!(matches!(recording.next(0).await, Next::Part(part) if part == "a"));
        assert!(matches!(recording.next(1).await, Next::Part(part) if part == "b"));
        assert!(matches!(recording.next(2).await, Next::End(Ok(()))));
    }

    #[tokio::test]
    async fn a_dropped_call_ends_its_recording_with_an_error_and_is_not_joined() {
        let live = Arc::new(LiveRecordings::default());
        let key = Digest::from_bytes([1; 32]);
        let (recording, guard) = live.join_or_begin("t", &key);
        assert!(live.join_or_begin("t", &key).1.is_none());
        assert!(live.join_or_begin("other", &key).1.is_some());
        drop(guard);
        assert!(matches!(recording.begun().await, Begun::Failed(_)));
        assert!(live.get("t", &key).is_none());
    }

    #[test]
    fn an_answer_has_a_bound() {
        let recording = Recording::new();
        let mib = Bytes::from(vec![0; 1024 * 1024]);
        let taken = (0..100).take_while(|_| recording.push(mib.clone()).is_ok()).count();
        assert_eq!(taken, 64);
    }
}

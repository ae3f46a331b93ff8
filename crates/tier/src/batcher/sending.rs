//! Whether a request that waits for its turn is sent: decided once, between its caller and its sender.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use crate::{Error, ErrorKind};

/// The request waits. Either side may decide.
const WAITING: u8 = 0;
/// The sender decided to send it.
const SENT: u8 = 1;
/// The caller stopped waiting before it was sent.
const WITHDRAWN: u8 = 2;

/// The caller's side of a write that waits in a queue, or for a connection, before it is sent.
///
/// A caller whose budget ends must know whether its write may have happened. A write that was not sent by
/// then must not be sent afterwards, although other writes of the same batch are. The caller keeps the watch,
/// and the request carries the [`SendMark`]. Only one of them decides: the sender by
/// [`SendMark::send`], or the caller by [`failed`](Self::failed) or by dropping the watch.
///
/// # Cost
/// One allocation for both sides, and one atomic exchange for each decision.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Error, ErrorKind, SendWatch};
///
/// let late = || Error::timeout(Duration::from_millis(50));
/// let (watch, mark) = SendWatch::new();
/// assert_eq!(watch.failed(late()).kind(), ErrorKind::Timeout);
/// assert!(!mark.send(), "its caller was told that nothing was sent");
///
/// let (watch, mark) = SendWatch::new();
/// assert!(mark.send());
/// assert_eq!(watch.failed(late()).kind(), ErrorKind::Unknown);
/// ```
#[derive(Debug)]
pub struct SendWatch(Arc<AtomicU8>);

/// The sender's side of a [`SendWatch`].
#[derive(Debug)]
pub struct SendMark(Arc<AtomicU8>);

impl SendWatch {
    /// Both sides of a request that was not sent yet.
    pub fn new() -> (Self, SendMark) {
        let state = Arc::new(AtomicU8::new(WAITING));
        (Self(Arc::clone(&state)), SendMark(state))
    }

    /// The error of a write whose call ended with `error` and without an answer of the server: `error` itself
    /// if the write was not sent, and it will not be; otherwise [`ErrorKind::Unknown`].
    pub fn failed(self, error: Error) -> Error {
        if decide(&self.0, WITHDRAWN) {
            return error;
        }
        let message = "no reply to a write that was sent: it may or may not have happened";
        Error::new(ErrorKind::Unknown, message).with_source(error)
    }
}

impl Drop for SendWatch {
    /// A caller that is cancelled withdraws its write, unless it was sent.
    fn drop(&mut self) {
        decide(&self.0, WITHDRAWN);
    }
}

impl SendMark {
    /// Decides that the request is sent, immediately before it is. `false` where its caller has stopped
    /// waiting: then it must not be sent.
    #[must_use = "a request whose caller has stopped waiting must not be sent"]
    pub fn send(&self) -> bool {
        decide(&self.0, SENT)
    }
}

/// Sets `outcome` unless another one was decided before.
fn decide(state: &AtomicU8, outcome: u8) -> bool {
    match state.compare_exchange(WAITING, outcome, Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => true,
        Err(decided) => decided == outcome,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_write_of_a_cancelled_caller_is_not_sent() {
        let (watch, mark) = SendWatch::new();
        drop(watch);
        assert!(!mark.send());
    }

    #[test]
    fn a_write_that_was_sent_stays_sent() {
        let (watch, mark) = SendWatch::new();
        assert!(mark.send());
        let error = watch.failed(Error::timeout(Duration::from_millis(50)));
        assert_eq!(error.kind(), ErrorKind::Unknown);
        assert!(error.to_string().contains("50ms"), "{error}");
        assert!(mark.send(), "the caller withdraws nothing afterwards");
    }

    #[test]
    fn of_a_caller_and_a_sender_at_once_one_decides() {
        for _ in 0..1000 {
            let (watch, mark) = SendWatch::new();
            let sender = std::thread::spawn(move || mark.send());
            let kind = watch.failed(Error::timeout(Duration::from_millis(50))).kind();
            assert_eq!(sender.join().unwrap(), kind == ErrorKind::Unknown);
        }
    }
}

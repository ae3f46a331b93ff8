//! What this process last heard of a namespace's epoch, and when it asked.

use std::time::Duration;

use parking_lot::Mutex;
use terrace_core::Epoch;
use tokio::time::Instant;

/// A hearing is trusted for so long; then a read asks for the epoch with the entry.
const TRUST: Duration = Duration::from_millis(100);

/// The epoch of one namespace and tenant, as heard.
///
/// Dated by when the question was sent: an answer that was long under way, or a process that was
/// stopped in between, must not make old news look new.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<Option<(Epoch, Instant)>>);

impl Heard {
    /// Takes an answer; `None` says that the server has lost the epoch. An answer to an older
    /// question changes nothing.
    pub(crate) fn hear(&self, epoch: Option<Epoch>, asked_at: Instant) {
        let mut heard = self.0.lock();
        if heard.is_none_or(|(_, before)| before <= asked_at) {
            *heard = epoch.map(|epoch| (epoch, asked_at));
        }
    }

    /// The last epoch heard, however old.
    pub(crate) fn epoch(&self) -> Option<Epoch> {
        self.0.lock().map(|(epoch, _)| epoch)
    }

    /// The last epoch heard, if it may still be trusted.
    pub(crate) fn fresh_epoch(&self) -> Option<Epoch> {
        self.0.lock().filter(|(_, asked_at)| asked_at.elapsed() < TRUST).map(|(epoch, _)| epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_hearing_grows_old_from_the_time_of_its_question() {
        let (heard, epoch) = (Heard::default(), Epoch::from_u64(7));
        assert_eq!(heard.fresh_epoch(), None);
        let asked_at = Instant::now();
        tokio::time::advance(Duration::from_millis(60)).await;
        heard.hear(Some(epoch), asked_at);
        assert_eq!(heard.fresh_epoch(), Some(epoch));
        tokio::time::advance(Duration::from_millis(40)).await;
        assert_eq!((heard.fresh_epoch(), heard.epoch()), (None, Some(epoch)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_older_answer_does_not_replace_a_newer_one() {
        let heard = Heard::default();
        let first = Instant::now();
        tokio::time::advance(Duration::from_millis(1)).await;
        heard.hear(Some(Epoch::from_u64(2)), Instant::now());
        heard.hear(Some(Epoch::from_u64(1)), first);
        assert_eq!(heard.epoch(), Some(Epoch::from_u64(2)));
        heard.hear(None, Instant::now());
        assert_eq!(heard.epoch(), None);
    }
}

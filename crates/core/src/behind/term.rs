//! The term of the front: it is opened before the first write, and held while the cache lives.

use std::time::Duration;

use terrace_tier::{
    FrontClaim, FrontStore, Term,
    defence::{Defence, enabled},
};
use tokio::time::Instant;

use super::{Behind, index::Progress, store_of};
use crate::{Error, ErrorKind, Event, Result, chain::Chain};

/// How long the store keeps the namespace for a front in memory, counted from the last time it asked.
pub(super) const HOLD: Duration = Duration::from_secs(10);
/// How often the hold is prolonged.
pub(super) const PROLONG_EVERY: Duration = Duration::from_secs(3);

/// What the front knows of its opening.
pub(super) struct FrontState {
    id: u64,
    /// The term of the last opening that succeeded.
    pub(super) term: Option<Term>,
    /// Until when the front may acknowledge writes.
    held_until: Option<Instant>,
    /// When the hold was last asked for.
    pub(super) asked_at: Option<Instant>,
}

impl FrontState {
    pub(super) fn new() -> Self {
        Self { id: fastrand::u64(1..), term: None, held_until: None, asked_at: None }
    }

    fn is_held(&self) -> bool {
        let holds = |until: Instant| Instant::now() < until || !enabled(Defence::HoldEnds);
        self.term.is_some() && self.held_until.is_none_or(holds)
    }
}

impl Behind {
    pub(super) fn term(&self) -> Option<Term> {
        self.state.lock().term
    }

    /// Whether the front may acknowledge a write now.
    pub(super) fn may_acknowledge(&self) -> bool {
        self.state.lock().is_held()
    }

    /// Opens the front if it is not open, and asks for its hold again if that has run out.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] while another front holds the namespace, [`ErrorKind::FrontLost`] for a
    /// front that another one has replaced, and the errors of the store.
    ///
    /// # Cost
    /// One lock where the front is open. Otherwise one round trip to the store, which concurrent calls share.
    pub(crate) async fn open(&self, chain: &Chain) -> Result<()> {
        if self.may_acknowledge() {
            return Ok(());
        }
        let _one_at_a_time = self.opening.lock().await;
        match self.term() {
            _ if self.may_acknowledge() => Ok(()),
            Some(term) => self.prolong(chain, term).await,
            None => self.open_anew(chain).await,
        }
    }

    async fn open_anew(&self, chain: &Chain) -> Result<()> {
        let (id, asked_at) = (self.state.lock().id, Instant::now());
        let claim = FrontClaim {
            id,
            nonce: id,
            known: Vec::new(),
            is_resumed: false,
            hold: Some(HOLD),
            takes_over: false,
        };
        let opened =
            front_store(chain)?.open_front(&claim).await.map_err(|error| self.at_store(chain, error))?;
        self.index.lock().raise(opened.high);
        let mut state = self.state.lock();
        state.term = Some(opened.term);
        state.asked_at = Some(asked_at);
        state.held_until = Some(self.dated(asked_at) + HOLD);
        drop(state);
        self.context.monitor.tell(&Event::FrontOpened);
        Ok(())
    }

    /// Asks the store to hold the namespace for longer.
    pub(super) async fn prolong(&self, chain: &Chain, term: Term) -> Result<()> {
        let asked_at = Instant::now();
        let held = match front_store(chain) {
            Ok(store) => store.hold_front(term, HOLD).await,
            Err(error) => Err(error),
        };
        self.state.lock().asked_at = Some(asked_at);
        match held {
            Ok(()) => {
                let mut state = self.state.lock();
                if state.term == Some(term) {
                    state.held_until = Some(self.dated(asked_at) + HOLD);
                }
                Ok(())
            }
            Err(error) => {
                let error = self.at_store(chain, error);
                if error.kind() == ErrorKind::FrontLost {
                    self.lose(term, &error);
                }
                Err(error)
            }
        }
    }

    /// The hold counts from when it was asked for: the store may have answered late.
    fn dated(&self, asked_at: Instant) -> Instant {
        if enabled(Defence::HoldEnds) { asked_at } else { Instant::now() }
    }

    /// Another front was opened: everything dirty becomes a dead letter that is not read, and the next write opens
    /// this front anew.
    pub(super) fn lose(&self, term: Term, error: &Error) {
        {
            let mut state = self.state.lock();
            if state.term != Some(term) {
                return;
            }
            let id = fastrand::u64(1..);
            *state = FrontState { id, term: None, held_until: None, asked_at: None };
        }
        let mut index = self.index.lock();
        let dirty = index.all().filter(|dirty| !matches!(dirty.progress, Progress::Dead(_)));
        let lost: Vec<_> = dirty.map(|dirty| (dirty.write.key.digest, dirty.write.version)).collect();
        for (digest, version) in &lost {
            index.bury(digest, *version, error.clone());
        }
        drop(index);
        self.context.warnings.failed(error);
        self.context.monitor.tell(&Event::FrontLost { writes: lost.len() });
        self.changed.notify_waiters();
    }

    /// Ends the hold, so that others may write the namespace's records.
    pub(super) async fn release(&self, chain: &Chain) -> Result<()> {
        let Some(term) = self.term() else { return Ok(()) };
        let released = front_store(chain)?.release_front(term).await;
        self.state.lock().term = None;
        released.map_err(|error| self.at_store(chain, error))
    }

    fn at_store(&self, chain: &Chain, error: Error) -> Error {
        match &chain.store {
            Some(store) => error.at_tier(store.shared.name),
            None => error,
        }
    }
}

fn front_store(chain: &Chain) -> Result<&dyn FrontStore> {
    let no_front = || Error::config("the store does not support write-behind");
    store_of(chain)?.front_store().ok_or_else(no_front)
}

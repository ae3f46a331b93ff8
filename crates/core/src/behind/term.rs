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
    /// The nonce of the next opening, which is sent again until the store has answered.
    nonce: u64,
    /// Whether the journal has the nonce.
    is_intended: bool,
    /// The term of the last opening that succeeded.
    pub(super) term: Option<Term>,
    /// Until when the front may acknowledge writes.
    held_until: Option<Instant>,
    /// When the hold was last asked for.
    pub(super) asked_at: Option<Instant>,
}

impl FrontState {
    /// The state before the first opening. A front in memory draws its id.
    pub(super) fn new(id: Option<u64>) -> Self {
        let (id, nonce) = (id.unwrap_or_else(|| fastrand::u64(1..)), fastrand::u64(1..));
        Self { id, nonce, is_intended: false, term: None, held_until: None, asked_at: None }
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
            None => self.open_anew(chain, false).await,
        }
    }

    /// Opens the front, even where another front holds the namespace.
    pub(super) async fn open_by_force(&self, chain: &Chain) -> Result<()> {
        let _one_at_a_time = self.opening.lock().await;
        self.open_anew(chain, true).await
    }

    async fn open_anew(&self, chain: &Chain, takes_over: bool) -> Result<()> {
        let (id, nonce, is_intended) = {
            let state = self.state.lock();
            (state.id, state.nonce, state.is_intended)
        };
        if let Some(journal) = self.journal.as_ref().filter(|_| !is_intended) {
            journal.intend(nonce).await?;
            self.state.lock().is_intended = true;
        }
        let known = self.journal.as_ref().map(|journal| journal.known.clone()).unwrap_or_default();
        // A journal without a write is like a new one: nobody can miss what another front has replaced.
        let is_resumed = self.journal.is_some() && self.index.lock().keys() > 0;
        let hold = self.journal.is_none().then_some(HOLD);
        let claim = FrontClaim { id, nonce, known, is_resumed, hold, takes_over };
        let asked_at = Instant::now();
        let opened = match front_store(chain)?.open_front(&claim).await {
            Ok(opened) => opened,
            Err(error) => {
                let error = self.at_store(chain, error);
                if error.kind() == ErrorKind::FrontLost {
                    self.bury_all(&error);
                }
                return Err(error);
            }
        };
        if let Some(journal) = &self.journal {
            journal.granted(nonce, opened.term.as_u64()).await?;
        }
        self.index.lock().raise(opened.high);
        let mut state = self.state.lock();
        state.term = Some(opened.term);
        // A front in a file holds its namespace until it is released.
        state.asked_at = hold.map(|_| asked_at);
        state.held_until = hold.map(|hold| self.dated(asked_at) + hold);
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
            *state = FrontState::new(self.journal.as_ref().map(|journal| journal.id));
        }
        self.bury_all(error);
    }

    /// Makes dead letters of everything dirty, which reads do not find any more.
    fn bury_all(&self, error: &Error) {
        let mut index = self.index.lock();
        let dirty = index.all().filter(|dirty| !matches!(dirty.progress, Progress::Dead(_)));
        let lost: Vec<_> = dirty.map(|dirty| dirty.write.clone()).collect();
        for write in &lost {
            index.bury(&write.key.digest, write.version, error.clone());
            self.journal.as_ref().inspect(|journal| journal.dead(write, error));
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

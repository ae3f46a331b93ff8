//! The task with which a process follows the log of a server, for all its followers. Works as the one
//! of Redis does: one question at a time, on a connection of its own.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{Follower, Notice};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    history::Fact,
    message::{
        Link, Request, Response,
        log::{Cursor, Entry, Gap},
    },
    network::{Network, Repeat},
};

/// How long an answer may take; then the connection is given up.
const ANSWER: Duration = Duration::from_millis(600);

/// Before another connection is tried.
const PAUSE: Duration = Duration::from_millis(10);

/// Between two rounds.
const GATHER: Duration = Duration::from_millis(2);

/// Who follows one server in one process.
pub(crate) struct Hub {
    pub(crate) network: Arc<Network>,
    pub(crate) link: Link,
    listeners: Mutex<Vec<Listener>>,
    /// What is to be told again.
    again: Mutex<Vec<Entry>>,
}

struct Listener {
    namespace: String,
    follower: Weak<dyn Follower>,
    /// Whether it was told that nothing is proven yet.
    begun: bool,
}

/// No follower is left.
struct Deserted;

impl Hub {
    pub(crate) fn new(network: Arc<Network>, link: Link) -> Arc<Self> {
        Arc::new(Self { network, link, listeners: Mutex::default(), again: Mutex::default() })
    }

    /// Adds a follower, unless it is one already.
    pub(crate) fn follow(self: &Arc<Self>, namespace: &str, follower: Weak<dyn Follower>) {
        let mut listeners = self.listeners.lock();
        let known = |listener: &Listener| {
            listener.namespace == namespace && Weak::ptr_eq(&listener.follower, &follower)
        };
        if listeners.iter().any(known) {
            return;
        }
        listeners.push(Listener { namespace: namespace.to_owned(), follower, begun: false });
        if listeners.len() == 1 {
            let reader = Reader { hub: Arc::downgrade(self), known: None };
            tokio::spawn(reader.run());
        }
    }

    /// All that follow now; who is new among them learns that nothing is proven yet.
    fn ears(&self) -> Vec<(String, Arc<dyn Follower>)> {
        let (mut new, mut ears) = (Vec::new(), Vec::new());
        for listener in self.listeners.lock().iter_mut() {
            let Some(follower) = listener.follower.upgrade() else { continue };
            if !std::mem::replace(&mut listener.begun, true) {
                new.push(Arc::clone(&follower));
            }
            ears.push((listener.namespace.clone(), follower));
        }
        new.iter().for_each(|follower| follower.notice(&Notice::Lost));
        ears
    }

    /// Whether near follows it: a log further down only wakes a relay.
    fn is_nearest(&self) -> bool {
        self.link.server == 0
    }

    fn is_deserted(&self) -> bool {
        self.listeners.lock().iter().all(|listener| listener.follower.strong_count() == 0)
    }

    /// Tells of a round: first of what it tells again, then of what is new.
    fn tell_all(&self, entries: impl Iterator<Item = Entry>) {
        let again = std::mem::take(&mut *self.again.lock());
        again.iter().for_each(|entry| self.tell(entry));
        for entry in entries {
            self.tell(&entry);
            match self.network.repeats(self.link, entry.stamp) {
                Repeat::No => {}
                Repeat::AtOnce => self.tell(&entry),
                Repeat::Later => self.again.lock().push(entry),
            }
        }
    }

    fn tell(&self, entry: &Entry) {
        let process = self.link.process;
        let versioned = matches!(entry.notice, Notice::Key { version: Some(_), .. });
        if entry.origin == process && !versioned {
            return;
        }
        let ears = self.ears();
        let concerned: Vec<_> = ears.iter().filter(|(namespace, _)| *namespace == entry.namespace).collect();
        if concerned.is_empty() {
            return;
        }
        concerned.iter().for_each(|(_, follower)| follower.notice(&entry.notice));
        self.network.recorder.count(|counts| counts.notices += 1);
        if let Some((key, since)) = entry.covers.filter(|_| self.is_nearest()) {
            self.network.recorder.fact(Fact::Heard { process, key, since });
        }
    }

    fn lost(&self) {
        self.again.lock().clear();
        self.ears().iter().for_each(|(_, follower)| follower.notice(&Notice::Lost));
        if self.is_nearest() {
            self.network.recorder.fact(Fact::Gap { process: self.link.process });
        }
        self.network.recorder.count(|counts| counts.gaps += 1);
    }
}

struct Reader {
    hub: Weak<Hub>,
    /// Where the last connection was; the next one goes on from there if that still holds.
    known: Option<Cursor>,
}

impl Reader {
    async fn run(mut self) {
        while self.read().await.is_ok() {
            sleep(PAUSE).await;
        }
    }

    fn hub(&self) -> Result<Arc<Hub>, Deserted> {
        self.hub.upgrade().filter(|hub| !hub.is_deserted()).ok_or(Deserted)
    }

    /// The response to a request; `None` where the connection broke.
    async fn ask(&self, request: Request) -> Result<Option<Response>, Deserted> {
        let hub = self.hub()?;
        let (network, link) = (Arc::clone(&hub.network), hub.link);
        drop(hub);
        Ok(timeout(ANSWER, network.ask(link, request)).await.ok())
    }

    /// Reads through one connection, until it breaks.
    async fn read(&mut self) -> Result<(), Deserted> {
        let Some(mut cursor) = self.join(true).await? else { return Ok(()) };
        loop {
            let hub = self.hub()?;
            let (sent, at) = (Instant::now(), hub.network.recorder.now());
            drop(hub);
            let response = self.ask(Request::Follow(cursor.clone())).await?;
            let Some(Response::Read(Ok(round))) = response else { return Ok(()) };
            let hub = self.hub()?;
            match cursor.advance(&round) {
                Err(Gap) => {
                    hub.lost();
                    match self.join(false).await? {
                        Some(joined) => cursor = joined,
                        None => return Ok(()),
                    }
                    continue;
                }
                Ok(complete) => {
                    hub.tell_all(round.into_entries());
                    if complete {
                        hub.ears().iter().for_each(|(_, follower)| follower.heartbeat(sent));
                        if hub.is_nearest() {
                            let process = hub.link.process;
                            hub.network.recorder.fact(Fact::Followed { process, until: at });
                        }
                    }
                }
            }
            self.known = Some(cursor.clone());
            sleep(GATHER).await;
        }
    }

    /// Where to begin: where this follower was if `resumes` and if that is still possible, else at
    /// the end, and then nothing that was kept before is proven.
    async fn join(&mut self, resumes: bool) -> Result<Option<Cursor>, Deserted> {
        let known = self.known.clone();
        let response = self.ask(Request::Join(known)).await?;
        let Some(Response::Joined(Ok(joined))) = response else { return Ok(None) };
        let goes_on = |known: &Cursor| resumes && known.is_in_log_of(&joined);
        let cursor = match self.known.take() {
            Some(known) if goes_on(&known) => known,
            None => joined,
            Some(_) => {
                self.hub()?.lost();
                joined
            }
        };
        self.known = Some(cursor.clone());
        Ok(Some(cursor))
    }
}

//! The task by which a process follows the log of a server, for all followers in the process. It works
//! as the task of the Redis tier: one request at a time, on its own connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_conformance::Fake;
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

/// How long a response may take; then the connection is given up.
const ANSWER: Duration = Duration::from_millis(600);

/// The pause before another connection is tried.
const PAUSE: Duration = Duration::from_millis(10);

/// The pause between two rounds.
const GATHER: Duration = Duration::from_millis(2);

/// The followers of one server in one process.
pub(crate) struct Followers {
    pub(crate) network: Arc<Network>,
    pub(crate) link: Link,
    /// The handle of its process, which forgets the epochs that it knows when the log reports a clear.
    handle: Fake,
    /// A switch: the handle goes on with the epochs that it knows.
    forgets: bool,
    listeners: Mutex<Vec<Listener>>,
    /// Entries that are reported again with the next round.
    again: Mutex<Vec<Entry>>,
}

struct Listener {
    namespace: String,
    follower: Weak<dyn Follower>,
    /// Whether the follower was notified that nothing is proven yet.
    begun: bool,
}

/// No follower is left.
struct Deserted;

impl Followers {
    pub(crate) fn new(network: Arc<Network>, link: Link, handle: Fake, forgets: bool) -> Arc<Self> {
        let (listeners, again) = (Mutex::default(), Mutex::default());
        Arc::new(Self { network, link, handle, forgets, listeners, again })
    }

    /// Adds a follower, unless the process has it already.
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
            let reader = Reader { followers: Arc::downgrade(self), known: None };
            tokio::spawn(reader.run());
        }
    }

    /// All followers now; new ones among them are notified that nothing is proven yet.
    fn alive(&self) -> Vec<(String, Arc<dyn Follower>)> {
        let (mut new, mut all) = (Vec::new(), Vec::new());
        for listener in self.listeners.lock().iter_mut() {
            let Some(follower) = listener.follower.upgrade() else { continue };
            if !std::mem::replace(&mut listener.begun, true) {
                new.push(Arc::clone(&follower));
            }
            all.push((listener.namespace.clone(), follower));
        }
        new.iter().for_each(|follower| follower.notice(&Notice::Lost));
        all
    }

    /// Whether near follows this log: the log of a farther server only wakes a relay.
    fn is_nearest(&self) -> bool {
        self.link.server == 0
    }

    fn is_deserted(&self) -> bool {
        self.listeners.lock().iter().all(|listener| listener.follower.strong_count() == 0)
    }

    /// Reports a round: first the entries that are repeated, then the new ones.
    fn report_all(&self, entries: impl Iterator<Item = Entry>) {
        let again = std::mem::take(&mut *self.again.lock());
        again.iter().for_each(|entry| self.report(entry));
        for entry in entries {
            self.report(&entry);
            match self.network.repeats(self.link, entry.stamp) {
                Repeat::No => {}
                Repeat::AtOnce => self.report(&entry),
                Repeat::Later => self.again.lock().push(entry),
            }
        }
    }

    fn report(&self, entry: &Entry) {
        let process = self.link.process;
        if let Notice::Clear { tenant } = &entry.notice
            && self.forgets
        {
            self.handle.hear_clear(&entry.namespace, tenant.as_deref());
        }
        let versioned = matches!(entry.notice, Notice::Key { version: Some(_), .. });
        if entry.origin == process && !versioned {
            return;
        }
        let followers = self.alive();
        let concerned: Vec<_> =
            followers.iter().filter(|(namespace, _)| *namespace == entry.namespace).collect();
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
        if self.forgets {
            self.handle.hear_loss();
        }
        self.alive().iter().for_each(|(_, follower)| follower.notice(&Notice::Lost));
        if self.is_nearest() {
            self.network.recorder.fact(Fact::Gap { process: self.link.process });
        }
        self.network.recorder.count(|counts| counts.gaps += 1);
    }
}

struct Reader {
    followers: Weak<Followers>,
    /// Where the last connection was; the next one continues there if the log still has that entry.
    known: Option<Cursor>,
}

impl Reader {
    async fn run(mut self) {
        while self.read().await.is_ok() {
            sleep(PAUSE).await;
        }
    }

    fn followers(&self) -> Result<Arc<Followers>, Deserted> {
        self.followers.upgrade().filter(|followers| !followers.is_deserted()).ok_or(Deserted)
    }

    /// The response to a request; `None` where the connection broke.
    async fn ask(&self, request: Request) -> Result<Option<Response>, Deserted> {
        let followers = self.followers()?;
        let (network, link) = (Arc::clone(&followers.network), followers.link);
        drop(followers);
        Ok(timeout(ANSWER, network.ask(link, request)).await.ok())
    }

    /// Reads through one connection, until it breaks.
    async fn read(&mut self) -> Result<(), Deserted> {
        let Some(mut cursor) = self.join(true).await? else { return Ok(()) };
        loop {
            let followers = self.followers()?;
            let (sent, at) = (Instant::now(), followers.network.recorder.now());
            drop(followers);
            let response = self.ask(Request::Follow(cursor.clone())).await?;
            let Some(Response::Read(Ok(round))) = response else { return Ok(()) };
            let followers = self.followers()?;
            match cursor.advance(&round) {
                Err(Gap) => {
                    followers.lost();
                    match self.join(false).await? {
                        Some(joined) => cursor = joined,
                        None => return Ok(()),
                    }
                    continue;
                }
                Ok(complete) => {
                    followers.report_all(round.into_entries());
                    if complete {
                        followers.alive().iter().for_each(|(_, follower)| follower.heartbeat(sent));
                        if followers.is_nearest() {
                            let process = followers.link.process;
                            followers.network.recorder.fact(Fact::Followed { process, until: at });
                        }
                    }
                }
            }
            self.known = Some(cursor.clone());
            sleep(GATHER).await;
        }
    }

    /// Where to begin: at the last cursor if `resumes` and if the log still has it, else at the end, and
    /// then no copy that was kept before is proven.
    async fn join(&mut self, resumes: bool) -> Result<Option<Cursor>, Deserted> {
        let known = self.known.clone();
        let response = self.ask(Request::Join(known)).await?;
        let Some(Response::Joined(Ok(joined))) = response else { return Ok(None) };
        let goes_on = |known: &Cursor| resumes && known.is_in_log_of(&joined);
        let cursor = match self.known.take() {
            Some(known) if goes_on(&known) => known,
            None => joined,
            Some(_) => {
                self.followers()?.lost();
                joined
            }
        };
        self.known = Some(cursor.clone());
        Ok(Some(cursor))
    }
}

//! Waiting for another process's lease: what a server keeps for it, and how a process asks. Works as
//! that of Redis does, whose announcements may be late, lost, or come twice.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use terrace_tier::{
    Error, ErrorKind, Namespace, Result, TierKey, Timestamp, Token,
    lease::{LeaseBackend, LeaseEnd, LeaseNotifier, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};

use super::{
    call::{Answer, Ask, Call, Link},
    network::{Network, Push},
};
use crate::{Fake, fake::Address};

/// As that of Redis: it announces.
const PACE: PollInterval = PollInterval::new(Duration::from_millis(100), Duration::from_millis(150));

/// The part of a server at which processes wait.
pub(super) struct Desk {
    fake: Fake,
    book: Mutex<Book>,
}

/// What is written down there: goes back in time with the data.
#[derive(Clone, Default)]
pub(super) struct Book {
    signs: BTreeMap<Token, Sign>,
    awaited: BTreeMap<Token, (Address, Vec<Listener>)>,
}

#[derive(Clone, Copy)]
enum Sign {
    AliveUntil(Timestamp),
    GivenBack,
}

/// A process that is to be told of a lease's end.
#[derive(Clone)]
pub(super) struct Listener {
    pub(super) link: Link,
    pub(super) herald: LeaseNotifier<WiredLeases>,
}

/// A lease at a server.
pub(super) type Lease = LeaseRef<Address>;

impl Desk {
    pub(super) fn new(fake: Fake) -> Arc<Self> {
        Arc::new(Self { fake, book: Mutex::default() })
    }

    pub(super) fn save(&self) -> Book {
        self.book.lock().clone()
    }

    pub(super) fn go_back(&self, saved: &Book) {
        *self.book.lock() = saved.clone();
    }

    /// Looks at leases, and notes who waits for them.
    pub(super) fn look(&self, leases: &[Lease], listener: &Listener) -> Vec<LeaseStatus> {
        let now = self.fake.now();
        let mut book = self.book.lock();
        let sight = |Lease { address: place, token }: &Lease| {
            if !self.fake.is_leased(place, *token) {
                return LeaseStatus::Changed;
            }
            let sight = match book.signs.get(token) {
                Some(Sign::GivenBack) => return LeaseStatus::Free,
                Some(Sign::AliveUntil(end)) if now < *end => LeaseStatus::Alive,
                _ => LeaseStatus::Silent,
            };
            let (_, listeners) = book.awaited.entry(*token).or_insert_with(|| (place.clone(), Vec::new()));
            listeners.retain(|known| known.link.slot != listener.link.slot);
            listeners.push(listener.clone());
            sight
        };
        leases.iter().map(sight).collect()
    }

    pub(super) fn sign(&self, leases: &[Lease], life: Duration) {
        let end = self.fake.now().after(life);
        let alive = |lease: &Lease| (lease.token, Sign::AliveUntil(end));
        self.book.lock().signs.extend(leases.iter().map(alive));
    }

    pub(super) fn give_back(&self, lease: &Lease, network: &Network) {
        let mut book = self.book.lock();
        book.signs.insert(lease.token, Sign::GivenBack);
        let awaited = book.awaited.remove(&lease.token);
        drop(book);
        for listener in awaited.into_iter().flat_map(|(_, listeners)| listeners) {
            network.push(Push { listener, token: lease.token, ended: LeaseEnd::Free });
        }
    }

    /// Announces the leases of a key that are no more.
    pub(super) fn announce(&self, space: &Namespace, key: &TierKey, network: &Network) {
        let of_key = |(namespace, tenant, bytes): &Address| {
            *namespace == space.name && *tenant == space.tenant && *bytes == key.bytes
        };
        let mut book = self.book.lock();
        let ended: Vec<_> = book
            .awaited
            .extract_if(.., |token, (place, _)| of_key(place) && !self.fake.is_leased(place, *token))
            .collect();
        drop(book);
        for (token, (_, listeners)) in ended {
            for listener in listeners {
                network.push(Push { listener, token, ended: LeaseEnd::Changed });
            }
        }
    }
}

/// The server as those who wait use it.
pub(super) struct WiredLeases {
    network: Arc<Network>,
    desk: Arc<Desk>,
    listener: Listener,
}

impl WiredLeases {
    /// The inbox of a process at a server.
    pub(super) fn inbox(network: &Arc<Network>, link: Link, desk: &Arc<Desk>) -> LeaseTracker<Self> {
        let (network, desk) = (Arc::clone(network), Arc::clone(desk));
        LeaseTracker::with_notifier(
            |herald| Self { network, desk, listener: Listener { link, herald } },
            PACE,
        )
    }

    async fn ask(&self, ask: Ask) -> Answer {
        // The inbox gives up.
        Call::make(&self.network, self.listener.link, ask).await
    }
}

impl LeaseBackend for WiredLeases {
    type Address = Address;

    async fn poll(&self, leases: &[Lease]) -> Result<Vec<LeaseStatus>> {
        self.network.recorder.count(|counts| counts.looks += 1);
        let ask = Ask::Look(Arc::clone(&self.desk), leases.to_vec(), self.listener.clone());
        match self.ask(ask).await {
            Answer::Sights(sights) => sights,
            _ => Err(Error::new(ErrorKind::Backend, "an answer to another question")),
        }
    }

    async fn keep_alive(&self, leases: &[Lease], life: Duration) -> Result<()> {
        self.ask(Ask::Sign(Arc::clone(&self.desk), leases.to_vec(), life)).await.done()
    }

    async fn release(&self, lease: &Lease) -> Result<()> {
        self.ask(Ask::GiveBack(Arc::clone(&self.desk), lease.clone())).await.done()
    }
}

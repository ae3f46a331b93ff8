//! The leases that processes wait for at a server. Works as the lease waiter of Redis does, whose
//! announcements may be late, lost, or come twice.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use terrace_conformance::{Fake, parts::Address};
use terrace_tier::{
    Namespace, TierKey, Timestamp, Token,
    lease::{LeaseEnd, LeaseStatus},
};

use crate::message::{Lease, Listener, Push};

/// The part of a server at which processes wait for leases.
#[derive(Default)]
pub(crate) struct LeaseDesk(Mutex<LeaseTable>);

/// What the server keeps for that: it goes back in time with the data.
#[derive(Clone, Default)]
pub(crate) struct LeaseTable {
    signs: BTreeMap<Token, Sign>,
    awaited: BTreeMap<Token, (Address, Vec<Listener>)>,
}

#[derive(Clone, Copy)]
enum Sign {
    AliveUntil(Timestamp),
    GivenBack,
}

impl LeaseDesk {
    pub(crate) fn save(&self) -> LeaseTable {
        self.0.lock().clone()
    }

    pub(crate) fn go_back(&self, saved: &LeaseTable) {
        *self.0.lock() = saved.clone();
    }

    /// The status of leases; their listener is told of their end.
    pub(super) fn look(&self, fake: &Fake, leases: &[Lease], listener: &Listener) -> Vec<LeaseStatus> {
        let now = fake.now();
        let mut table = self.0.lock();
        let status = |Lease { address: place, token }: &Lease| {
            if !fake.is_leased(place, *token) {
                return LeaseStatus::Changed;
            }
            let status = match table.signs.get(token) {
                Some(Sign::GivenBack) => return LeaseStatus::Free,
                Some(Sign::AliveUntil(end)) if now < *end => LeaseStatus::Alive,
                _ => LeaseStatus::Silent,
            };
            let (_, listeners) = table.awaited.entry(*token).or_insert_with(|| (place.clone(), Vec::new()));
            listeners.retain(|known| known.link.slot != listener.link.slot);
            listeners.push(listener.clone());
            status
        };
        leases.iter().map(status).collect()
    }

    pub(super) fn sign(&self, leases: &[Lease], until: Timestamp) {
        let alive = |lease: &Lease| (lease.token, Sign::AliveUntil(until));
        self.0.lock().signs.extend(leases.iter().map(alive));
    }

    /// Returns the announcements of the lease's end.
    pub(super) fn give_back(&self, lease: &Lease) -> Vec<Push> {
        let mut table = self.0.lock();
        table.signs.insert(lease.token, Sign::GivenBack);
        let awaited = table.awaited.remove(&lease.token);
        let listeners = awaited.into_iter().flat_map(|(_, listeners)| listeners);
        listeners.map(|listener| Push { listener, token: lease.token, end: LeaseEnd::Free }).collect()
    }

    /// Returns the announcements of a key's leases that have ended.
    pub(super) fn ended(&self, fake: &Fake, of: &Namespace, key: &TierKey) -> Vec<Push> {
        let of_key = |(namespace, tenant, bytes): &Address| {
            *namespace == of.name && *tenant == of.tenant && *bytes == key.bytes
        };
        let mut table = self.0.lock();
        let ended = table
            .awaited
            .extract_if(.., |token, (place, _)| of_key(place) && !fake.is_leased(place, *token))
            .flat_map(|(token, (_, listeners))| {
                listeners.into_iter().map(move |listener| Push { listener, token, end: LeaseEnd::Changed })
            });
        ended.collect()
    }
}

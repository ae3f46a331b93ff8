//! The leases that a process waits for, who waits, and when each is looked at next.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::oneshot, time::Instant};

use super::{
    super::{LeaseEnd, LeaseRef, LeaseStatus, PollInterval},
    table::Table,
};
use crate::{
    Error, ErrorKind, Result, Token,
    defence::{Defence, enabled},
};

/// Leases that one process waits for; beyond, its loads do not wait.
pub(super) const MOST: usize = 4_096;

/// A switch: so long after the first look comes the next.
const NEVER: Duration = Duration::from_secs(86_400);

pub(super) struct AwaitedLeases<P> {
    table: Mutex<Table<Waiting<P>>>,
    pace: PollInterval,
    /// How long a holder counts as alive without a sign.
    life: Duration,
}

struct Waiting<P> {
    lease: LeaseRef<P>,
    since: Instant,
    next_look: Instant,
    waiters: Vec<oneshot::Sender<Result<LeaseEnd>>>,
}

impl<P: Clone> AwaitedLeases<P> {
    pub(super) fn new(pace: PollInterval, life: Duration) -> Self {
        Self { table: Mutex::default(), pace, life }
    }

    /// Adds one who waits; `task` looks after the leases for as long as there are any.
    pub(super) fn add<F>(
        &self,
        lease: LeaseRef<P>,
        waiter: oneshot::Sender<Result<LeaseEnd>>,
        task: impl FnOnce() -> F,
    ) -> Result<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let now = Instant::now();
        let mut awaited = self.table.lock();
        if let Some(waiting) = awaited.entries.get_mut(&lease.token) {
            waiting.waiters.push(waiter);
            return Ok(());
        }
        if awaited.entries.len() >= MOST {
            return Err(Error::new(ErrorKind::Busy, "too many leases are waited for"));
        }
        let token = lease.token;
        awaited.entries.insert(token, Waiting { lease, since: now, next_look: now, waiters: vec![waiter] });
        awaited.serve(task);
        Ok(())
    }

    /// The leases to look at now, and when the next is due; `None` once nobody waits, and the task is
    /// to end.
    pub(super) fn due(&self) -> Option<(Vec<LeaseRef<P>>, Instant)> {
        let now = Instant::now();
        let mut awaited = self.table.lock();
        awaited.entries.retain(|_, waiting| waiting.waiters.iter().any(|waiter| !waiter.is_closed()));
        if awaited.entries.is_empty() {
            awaited.task = None;
            return None;
        }
        // What is due soon goes along: one trip for all.
        let soon = now + self.pace.shortest / 2;
        let mut due = Vec::new();
        for waiting in awaited.entries.values_mut().filter(|waiting| waiting.next_look <= soon) {
            let pause = ((now - waiting.since) / 4).clamp(self.pace.shortest, self.pace.longest);
            waiting.next_look = now + if enabled(Defence::Looks) { pause } else { NEVER };
            due.push(waiting.lease.clone());
        }
        let next = awaited.entries.values().map(|waiting| waiting.next_look).min();
        Some((due, next.unwrap_or(now + self.pace.longest)))
    }

    /// What the looks of `asked_at` mean to those who wait.
    pub(super) fn seen(&self, due: &[LeaseRef<P>], sights: Result<Vec<LeaseStatus>>, asked_at: Instant) {
        let mut told = Vec::new();
        let mut awaited = self.table.lock();
        for (at, lease) in due.iter().enumerate() {
            let Some(waiting) = awaited.entries.get(&lease.token) else { continue };
            let ended = match &sights {
                Err(error) => Err(error.clone()),
                Ok(sights) => match sights.get(at) {
                    Some(LeaseStatus::Changed) => Ok(LeaseEnd::Changed),
                    Some(LeaseStatus::Free) => Ok(LeaseEnd::Free),
                    Some(LeaseStatus::Silent)
                        if asked_at - waiting.since >= self.life && enabled(Defence::Silence) =>
                    {
                        Ok(LeaseEnd::Free)
                    }
                    Some(_) => continue,
                    None => Err(Error::new(ErrorKind::Backend, "the server left out a lease")),
                },
            };
            told.extend(awaited.entries.remove(&lease.token).map(|waiting| (waiting, ended)));
        }
        drop(awaited);
        told.into_iter().for_each(|(waiting, ended)| waiting.tell(&ended));
    }

    /// Tells those who wait for the lease that it has ended.
    pub(super) fn tell(&self, token: Token, ended: LeaseEnd) {
        let told = self.table.lock().entries.remove(&token);
        if let Some(waiting) = told {
            waiting.tell(&Ok(ended));
        }
    }

    /// Makes the look at every lease due.
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        self.table.lock().entries.values_mut().for_each(|waiting| waiting.next_look = now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.lock().entries.is_empty()
    }
}

impl<P> Waiting<P> {
    fn tell(self, ended: &Result<LeaseEnd>) {
        for waiter in self.waiters {
            // Whoever went away needs no word.
            let _ = waiter.send(ended.clone());
        }
    }
}

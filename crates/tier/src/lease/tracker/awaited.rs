//! The leases that a process waits for, their waiters, and when each lease is polled next.

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

/// The most leases that one process waits for. A load that would wait for any other lease does not wait.
pub(super) const MAX_AWAITED: usize = 4_096;

/// The time to the second poll where a simulation leaves out [`Defence::Polls`].
const NEVER: Duration = Duration::from_secs(86_400);

pub(super) struct AwaitedLeases<P> {
    table: Mutex<Table<AwaitedLease<P>>>,
    poll_interval: PollInterval,
    /// How long a silent holder counts as alive.
    life: Duration,
}

struct AwaitedLease<P> {
    lease: LeaseRef<P>,
    since: Instant,
    next_poll: Instant,
    waiters: Vec<oneshot::Sender<Result<LeaseEnd>>>,
}

impl<P: Clone> AwaitedLeases<P> {
    pub(super) fn new(poll_interval: PollInterval, life: Duration) -> Self {
        Self { table: Mutex::default(), poll_interval, life }
    }

    /// Adds a waiter. `task` polls the leases as long as there are any.
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
        let mut table = self.table.lock();
        if let Some(awaited) = table.entries.get_mut(&lease.token) {
            awaited.waiters.push(waiter);
            return Ok(());
        }
        if table.entries.len() >= MAX_AWAITED {
            return Err(Error::new(ErrorKind::Busy, "too many leases are waited for"));
        }
        let token = lease.token;
        let awaited = AwaitedLease { lease, since: now, next_poll: now, waiters: vec![waiter] };
        table.entries.insert(token, awaited);
        table.serve(task);
        Ok(())
    }

    /// The leases to poll now, and the time of the next poll. `None` if there is no waiter left, and the
    /// task must end.
    pub(super) fn due(&self) -> Option<(Vec<LeaseRef<P>>, Instant)> {
        let now = Instant::now();
        let mut table = self.table.lock();
        table.entries.retain(|_, awaited| awaited.waiters.iter().any(|waiter| !waiter.is_closed()));
        if table.entries.is_empty() {
            table.task = None;
            return None;
        }
        // Leases that are due soon are polled now, so that all share one round trip.
        let soon = now + self.poll_interval.shortest / 2;
        let mut due = Vec::new();
        for awaited in table.entries.values_mut().filter(|awaited| awaited.next_poll <= soon) {
            let PollInterval { shortest, longest } = self.poll_interval;
            let pause = ((now - awaited.since) / 4).clamp(shortest, longest);
            awaited.next_poll = now + if enabled(Defence::Polls) { pause } else { NEVER };
            due.push(awaited.lease.clone());
        }
        let next = table.entries.values().map(|awaited| awaited.next_poll).min();
        Some((due, next.unwrap_or(now + self.poll_interval.longest)))
    }

    /// Answers the waiters of the leases in `due` that have ended, by the statuses of the poll that was sent
    /// at `sent_at`.
    pub(super) fn polled(&self, due: &[LeaseRef<P>], statuses: Result<Vec<LeaseStatus>>, sent_at: Instant) {
        let mut answered = Vec::new();
        let mut table = self.table.lock();
        for (index, lease) in due.iter().enumerate() {
            let Some(awaited) = table.entries.get(&lease.token) else { continue };
            let end = match &statuses {
                Err(error) => Err(error.clone()),
                Ok(statuses) => match statuses.get(index) {
                    Some(LeaseStatus::Changed) => Ok(LeaseEnd::Changed),
                    Some(LeaseStatus::Free) => Ok(LeaseEnd::Free),
                    Some(LeaseStatus::Silent)
                        if sent_at - awaited.since >= self.life && enabled(Defence::Silence) =>
                    {
                        Ok(LeaseEnd::Free)
                    }
                    Some(_) => continue,
                    None => Err(Error::new(ErrorKind::Backend, "the server left out a lease")),
                },
            };
            answered.extend(table.entries.remove(&lease.token).map(|awaited| (awaited, end)));
        }
        drop(table);
        answered.into_iter().for_each(|(awaited, end)| awaited.answer(&end));
    }

    /// Notifies the waiters of the lease that it has ended.
    pub(super) fn notify(&self, token: Token, end: LeaseEnd) {
        let awaited = self.table.lock().entries.remove(&token);
        if let Some(awaited) = awaited {
            awaited.answer(&Ok(end));
        }
    }

    /// Makes every lease due for a poll.
    pub(super) fn hurry(&self) {
        let now = Instant::now();
        self.table.lock().entries.values_mut().for_each(|awaited| awaited.next_poll = now);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.table.lock().entries.is_empty()
    }
}

impl<P> AwaitedLease<P> {
    fn answer(self, end: &Result<LeaseEnd>) {
        for waiter in self.waiters {
            // A waiter that was dropped needs no answer.
            let _ = waiter.send(end.clone());
        }
    }
}

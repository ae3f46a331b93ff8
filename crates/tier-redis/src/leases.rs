//! Waiting for leases: their status, keep-alives and notifications, and their release.
//!
//! Beside the cell of a lease, Redis keeps two keys. One is the set of the channels of the processes
//! that wait for the lease; the other is the last keep-alive of its holder, if the load takes long. Both expire.
//! A fill publishes to the channels in the set, if there are any.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::{Pipeline, Value};
use terrace_tier::{
    LeaseWaiter, Result, TierKey, Token,
    lease::{LeaseBackend, LeaseEnd, LeaseGuard, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};

use crate::{
    connection::{ConnectionManager, Listener},
    error::{Effect, NAME, server_error, unexpected_reply},
    namespace::{LeaseKeys, NamespaceState},
    scripts::{Call, Script, ScriptCall, random_number, send_calls},
};

/// Notifications report most changes at once. Polling finds the missed ones, and dead holders.
const POLL_INTERVAL: PollInterval = PollInterval::new(Duration::from_millis(100), Duration::from_millis(150));
/// How long after its last poll a process is notified of the end of a lease.
const WAITER_TTL: Duration = Duration::from_secs(1);
/// How long a released lease has the status `Free`; after that it is `Silent`.
const RELEASED_TTL: Duration = Duration::from_secs(60);

/// The most keep-alives in one round trip.
const KEEP_ALIVES: usize = 512;

/// The leases of one tier, tracked together with the leases of the other tiers of the handle.
pub(crate) struct TierLeases {
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) lease_tracker: LeaseTracker<RedisLeases>,
}

impl LeaseWaiter for TierLeases {
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        self.lease_tracker.hold(self.lease(key, token))
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        self.lease_tracker.wait(self.lease(key, token))
    }
}

impl TierLeases {
    fn lease(&self, key: &TierKey, token: Token) -> LeaseRef<CellKeys> {
        let layout = &self.state.layout;
        LeaseRef { address: CellKeys { cell: layout.cell(key), epochs: layout.epochs() }, token }
    }
}

/// The keys of a cell and of the epochs of its namespace.
#[derive(Clone)]
pub(crate) struct CellKeys {
    cell: Bytes,
    epochs: [Bytes; 2],
}

/// The commands about leases.
pub(crate) struct RedisLeases {
    manager: Arc<ConnectionManager>,
    keys: LeaseKeys,
    listener: Listener<Self>,
}

impl RedisLeases {
    /// The tracker of a handle, with a notification channel of its own.
    pub(crate) fn tracker(manager: &Arc<ConnectionManager>, prefix: &str) -> LeaseTracker<Self> {
        let keys = LeaseKeys::new(prefix);
        let new = |notifier| {
            let listener = Listener::new(manager, keys.channel(fastrand::u64(..)), notifier);
            Self { manager: Arc::clone(manager), keys, listener }
        };
        LeaseTracker::with_notifier(new, POLL_INTERVAL)
    }

    fn status_call(&self, lease: &LeaseRef<CellKeys>) -> Call {
        let CellKeys { cell, epochs: [own, shared] } = lease.address.clone();
        let channel = Bytes::copy_from_slice(self.listener.channel().as_bytes());
        let (waiters, keep_alive) = (self.keys.waiters(lease.token), self.keys.keep_alive(lease.token));
        Call {
            script: Script::LeaseStatus,
            keys: vec![cell, own, shared, waiters, keep_alive],
            args: vec![random_number(), token_bytes(lease.token), channel, millis(WAITER_TTL)],
        }
    }
}

impl LeaseBackend for RedisLeases {
    type Address = CellKeys;

    fn log_names(&self) -> (&str, String) {
        (NAME, self.manager.namespaces.names())
    }

    async fn poll(&self, leases: &[LeaseRef<CellKeys>]) -> Result<Vec<LeaseStatus>> {
        self.listener.start();
        let calls: Vec<Call> = leases.iter().map(|lease| self.status_call(lease)).collect();
        let values = send_calls(&self.manager, &calls, Effect::Read).await?;
        values.into_iter().map(status_in).collect()
    }

    async fn keep_alive(&self, leases: &[LeaseRef<CellKeys>], life: Duration) -> Result<()> {
        let life = millis(life);
        for page in leases.chunks(KEEP_ALIVES) {
            let mut sets = Pipeline::with_capacity(page.len());
            for lease in page {
                let key = self.keys.keep_alive(lease.token);
                sets.cmd("SET").arg(key.as_ref()).arg("A").arg("PX").arg(life.as_ref());
            }
            self.manager.send_many(&sets, Effect::Read).await?.iter().try_for_each(check)?;
        }
        Ok(())
    }

    async fn release(&self, lease: &LeaseRef<CellKeys>) -> Result<()> {
        let call = Call {
            script: Script::Release,
            keys: vec![self.keys.keep_alive(lease.token), self.keys.waiters(lease.token)],
            args: vec![token_bytes(lease.token), millis(RELEASED_TTL)],
        };
        check(&call.run(&self.manager, Effect::Read).await?)
    }
}

fn token_bytes(token: Token) -> Bytes {
    Bytes::copy_from_slice(&token.as_u64().to_be_bytes())
}

fn millis(life: Duration) -> Bytes {
    life.as_millis().to_string().into()
}

fn status_in(value: Value) -> Result<LeaseStatus> {
    check(&value)?;
    match value {
        Value::BulkString(letter) => match letter.as_slice() {
            b"A" => Ok(LeaseStatus::Alive),
            b"F" => Ok(LeaseStatus::Free),
            b"S" => Ok(LeaseStatus::Silent),
            b"C" => Ok(LeaseStatus::Changed),
            _ => Err(unexpected_reply()),
        },
        _ => Err(unexpected_reply()),
    }
}

fn check(value: &Value) -> Result<()> {
    match value {
        Value::ServerError(answer) => Err(server_error(answer)),
        _ => Ok(()),
    }
}

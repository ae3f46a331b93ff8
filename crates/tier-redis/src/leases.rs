//! Waiting at Redis: looks, signs of life, and leases given back.
//!
//! Beside the cell, a lease that is waited for has a set of the inboxes of those who wait, and one
//! whose load lasts has a sign of life; both end by themselves. A fill publishes to those inboxes,
//! and to nobody where nobody waits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{Client, Value};
use terrace_tier::{
    Epoch, Result, Token, Version,
    lease::{LeaseBackend, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};

use crate::{
    fault::{self, Effect},
    layout::LeaseKeys,
    link::Link,
    listener::Listener,
    script::{Call, Name},
    send::{self, Request},
};

/// What is announced needs no look; looks find what nobody announced, and the dead.
const PACE: PollInterval = PollInterval::new(Duration::from_millis(100), Duration::from_millis(150));
/// For so long after its last look a process is told of a lease's end.
const WAITS_FOR: Duration = Duration::from_secs(1);
/// For so long a lease is said to be given back; then it is silent.
const GIVEN_BACK_FOR: Duration = Duration::from_secs(60);

/// Where a lease is: its cell and the epochs of its namespace.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) cell: Bytes,
    pub(crate) epochs: [Bytes; 2],
}

/// The server as those who wait use it.
pub(crate) struct RedisLeases {
    link: Arc<Link>,
    keys: LeaseKeys,
    listener: Listener<Self>,
}

impl RedisLeases {
    pub(crate) fn inbox(link: &Arc<Link>, client: &Client, prefix: &str) -> LeaseTracker<Self> {
        let keys = LeaseKeys::new(prefix);
        let new = |herald| {
            let listener = Listener::new(client.clone(), keys.inbox(fastrand::u64(..)), herald);
            Self { link: Arc::clone(link), keys, listener }
        };
        LeaseTracker::with_notifier(new, PACE)
    }

    fn look_at(&self, lease: &LeaseRef<Place>) -> Call {
        let Place { cell, epochs: [own, common] } = lease.address.clone();
        let seed = Bytes::copy_from_slice(&Epoch::random().as_u64().to_be_bytes());
        let inbox = Bytes::copy_from_slice(self.listener.channel().as_bytes());
        Call {
            script: Name::Look,
            keys: vec![cell, own, common, self.keys.waiters(lease.token), self.keys.sign(lease.token)],
            args: vec![seed, bytes_of(lease.token), inbox, millis(WAITS_FOR)],
        }
    }
}

impl LeaseBackend for RedisLeases {
    type Address = Place;

    async fn poll(&self, leases: &[LeaseRef<Place>]) -> Result<Vec<LeaseStatus>> {
        self.listener.start();
        let looks: Vec<Request> = leases.iter().map(|lease| Request::Script(self.look_at(lease))).collect();
        let values = send::all(&self.link, &looks, Effect::Read).await?;
        values.into_iter().map(sight).collect()
    }

    async fn keep_alive(&self, leases: &[LeaseRef<Place>], life: Duration) -> Result<()> {
        let sign = |lease: &LeaseRef<Place>| {
            let (key, life) = (self.keys.sign(lease.token), millis(life));
            let mut set = redis::cmd("SET");
            set.arg(key.as_ref()).arg("A").arg("PX").arg(life.as_ref());
            Request::Set(set, Version::NONE)
        };
        let signs: Vec<Request> = leases.iter().map(sign).collect();
        let values = send::all(&self.link, &signs, Effect::Read).await?;
        values.iter().try_for_each(refused)
    }

    async fn release(&self, lease: &LeaseRef<Place>) -> Result<()> {
        let call = Call {
            script: Name::GiveBack,
            keys: vec![self.keys.sign(lease.token), self.keys.waiters(lease.token)],
            args: vec![bytes_of(lease.token), millis(GIVEN_BACK_FOR)],
        };
        refused(&send::run(&self.link, &call, Effect::Read).await?)
    }
}

fn sight(value: Value) -> Result<LeaseStatus> {
    refused(&value)?;
    match value {
        Value::BulkString(letter) => match letter.as_slice() {
            b"A" => Ok(LeaseStatus::Alive),
            b"F" => Ok(LeaseStatus::Free),
            b"S" => Ok(LeaseStatus::Silent),
            b"C" => Ok(LeaseStatus::Changed),
            _ => Err(fault::unreadable()),
        },
        _ => Err(fault::unreadable()),
    }
}

fn refused(value: &Value) -> Result<()> {
    match value {
        Value::ServerError(answer) => Err(fault::of_server(answer)),
        _ => Ok(()),
    }
}

fn bytes_of(token: Token) -> Bytes {
    Bytes::copy_from_slice(&token.as_u64().to_be_bytes())
}

fn millis(time: Duration) -> Bytes {
    time.as_millis().to_string().into()
}

//! Waiting at Redis: looks, signs of life, and leases given back.
//!
//! Beside the cell, a lease that is waited for has a set of the inboxes of those who wait, and one
//! whose load lasts has a sign of life; both end by themselves. A fill publishes to those inboxes,
//! and to nobody where nobody waits.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use redis::{Client, Value};
use terrace_core::{
    Epoch, Result, TierKey, Token, Version, Waits,
    waiting::{Awaited, Ended, Hold, Inbox, Leases, Pace, Sight},
};

use crate::{
    fault::{self, Effect},
    inbox::Listener,
    layout::LeaseKeys,
    link::Link,
    script::{Call, Name},
    send::{self, Request},
    tier::RedisTier,
};

/// What is announced needs no look; looks find what nobody announced, and the dead.
pub(crate) const PACE: Pace =
    Pace { shortest: Duration::from_millis(100), longest: Duration::from_millis(150) };
/// For so long after its last look a process is told of a lease's end.
const WAITS_FOR: Duration = Duration::from_secs(1);
/// For so long a lease is said to be given back; then it is silent.
const GIVEN_BACK_FOR: Duration = Duration::from_secs(60);

/// Where a lease is: its cell and the epochs of its namespace.
#[derive(Clone)]
pub(crate) struct Place {
    cell: Bytes,
    epochs: [Bytes; 2],
}

/// The server as those who wait use it.
pub(crate) struct RedisLeases {
    link: Arc<Link>,
    keys: LeaseKeys,
    listener: Listener,
}

impl RedisLeases {
    pub(crate) fn inbox(link: &Arc<Link>, client: &Client, prefix: &str) -> Inbox<Self> {
        let keys = LeaseKeys::new(prefix);
        let new = |herald| {
            let listener = Listener::new(client.clone(), keys.inbox(fastrand::u64(..)), herald);
            Self { link: Arc::clone(link), keys, listener }
        };
        Inbox::hearing(new, PACE)
    }

    fn look_at(&self, lease: &Awaited<Place>) -> Call {
        let Place { cell, epochs: [own, common] } = lease.place.clone();
        let seed = Bytes::copy_from_slice(&Epoch::random().as_u64().to_be_bytes());
        let inbox = Bytes::copy_from_slice(self.listener.channel().as_bytes());
        Call {
            script: Name::Look,
            keys: vec![cell, own, common, self.keys.waiters(lease.token), self.keys.sign(lease.token)],
            args: vec![seed, bytes_of(lease.token), inbox, millis(WAITS_FOR)],
        }
    }
}

impl Leases for RedisLeases {
    type Place = Place;

    async fn look(&self, leases: &[Awaited<Place>]) -> Result<Vec<Sight>> {
        self.listener.start();
        let looks: Vec<Request> = leases.iter().map(|lease| Request::Script(self.look_at(lease))).collect();
        let values = send::all(&self.link, &looks, Effect::Read).await?;
        values.into_iter().map(sight).collect()
    }

    async fn sign(&self, leases: &[Awaited<Place>], life: Duration) -> Result<()> {
        let sign = |lease: &Awaited<Place>| {
            let (key, life) = (self.keys.sign(lease.token), millis(life));
            let mut set = redis::cmd("SET");
            set.arg(key.as_ref()).arg("A").arg("PX").arg(life.as_ref());
            Request::Set(set, Version::NONE)
        };
        let signs: Vec<Request> = leases.iter().map(sign).collect();
        let values = send::all(&self.link, &signs, Effect::Read).await?;
        values.iter().try_for_each(refused)
    }

    async fn give_back(&self, lease: &Awaited<Place>) -> Result<()> {
        let call = Call {
            script: Name::GiveBack,
            keys: vec![self.keys.sign(lease.token), self.keys.waiters(lease.token)],
            args: vec![bytes_of(lease.token), millis(GIVEN_BACK_FOR)],
        };
        refused(&send::run(&self.link, &call, Effect::Read).await?)
    }
}

impl Waits for RedisTier {
    fn hold(&self, key: &TierKey, token: Token) -> Hold {
        self.inbox.hold(Awaited { place: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<Ended>> {
        self.inbox.wait(Awaited { place: self.place(key), token })
    }
}

impl RedisTier {
    fn place(&self, key: &TierKey) -> Place {
        let layout = &self.state.layout;
        Place { cell: layout.cell(key), epochs: layout.epochs() }
    }
}

/// What an inbox is told: the letter of a sight and a token.
pub(crate) fn announced(message: &[u8]) -> Option<(Token, Ended)> {
    let (letter, token) = message.split_first()?;
    let token = Token::from_u64(u64::from_be_bytes(token.try_into().ok()?));
    match letter {
        b'C' => Some((token, Ended::Changed)),
        b'F' => Some((token, Ended::Free)),
        _ => None,
    }
}

fn sight(value: Value) -> Result<Sight> {
    refused(&value)?;
    match value {
        Value::BulkString(letter) => match letter.as_slice() {
            b"A" => Ok(Sight::Alive),
            b"F" => Ok(Sight::Free),
            b"S" => Ok(Sight::Silent),
            b"C" => Ok(Sight::Changed),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_letter_and_a_token() {
        assert_eq!(announced(b"C\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), Ended::Changed)));
        assert_eq!(announced(b"F\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), Ended::Free)));
        for foreign in [&b""[..], b"C", b"C1234567", b"X\0\0\0\0\0\0\0\x07", b"C123456789"] {
            assert_eq!(announced(foreign), None);
        }
    }
}

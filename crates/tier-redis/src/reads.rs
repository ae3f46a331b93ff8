//! The read path: GET alone, MGET for many, the epoch with it where the last hearing is old.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_core::{Epoch, Error, Result, Trip};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect},
    link::Link,
    space::SpaceState,
};

/// One cell to be read.
pub(crate) struct Ask {
    pub(crate) key: Bytes,
    /// Ask for the epoch of this one too.
    pub(crate) epoch_of: Option<Arc<SpaceState>>,
}

/// What the gate sends: the bytes of cells, and on the way the epochs of their namespaces.
pub(crate) struct Reads(pub(crate) Arc<Link>);

impl Trip for Reads {
    type Request = Ask;
    type Reply = Option<Bytes>;

    async fn one(&self, ask: Ask) -> Result<Option<Bytes>> {
        if let Some(space) = ask.epoch_of {
            let mut found = Box::pin(read_many(&self.0, &[ask.key], &[space])).await?;
            return found.pop().ok_or_else(fault::unreadable);
        }
        let mut get = Cmd::with_capacity(2, ask.key.len() + 3);
        get.arg("GET").arg(ask.key.as_ref());
        cell_in(self.0.send(&get, Effect::Read).await?)
    }

    async fn many(&self, asks: Vec<Ask>) -> Result<Vec<Option<Bytes>>> {
        let mut spaces: Vec<Arc<SpaceState>> = Vec::new();
        let mut keys = Vec::with_capacity(asks.len());
        for ask in asks {
            keys.push(ask.key);
            let known = |space: &Arc<SpaceState>| spaces.iter().any(|known| Arc::ptr_eq(known, space));
            spaces.extend(ask.epoch_of.filter(|space| !known(space)));
        }
        read_many(&self.0, &keys, &spaces).await
    }
}

/// One MGET of `keys` and of the epochs of `spaces`, which hear them: one answer a key.
pub(crate) async fn read_many(
    link: &Arc<Link>,
    keys: &[Bytes],
    spaces: &[Arc<SpaceState>],
) -> Result<Vec<Option<Bytes>>> {
    let bytes: usize = keys.iter().map(Bytes::len).sum();
    let mut mget = Cmd::with_capacity(1 + keys.len() + spaces.len(), bytes + 4 + 64 * spaces.len());
    mget.arg("MGET");
    for key in keys {
        mget.arg(key.as_ref());
    }
    for space in spaces {
        mget.arg(&space.layout.epoch);
    }
    let asked_at = Instant::now();
    let mut values = match link.send(&mget, Effect::Read).await? {
        Value::Array(values) if values.len() == keys.len() + spaces.len() => values,
        Value::ServerError(answer) => return Err(fault::of_server(&answer)),
        _ => return Err(fault::unreadable()),
    };
    for (space, epoch) in spaces.iter().zip(values.drain(keys.len()..)) {
        space.heard.hear(epoch_in(&epoch), asked_at);
    }
    values.into_iter().map(cell_in).collect()
}

/// Nothing, and a value of another type, is a miss.
fn cell_in(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::Nil => Ok(None),
        Value::BulkString(bytes) => Ok(Some(bytes.into())),
        Value::ServerError(answer) if answer.code() == "WRONGTYPE" => Ok(None),
        Value::ServerError(answer) => Err::<_, Error>(fault::of_server(&answer)),
        _ => Err(fault::unreadable()),
    }
}

fn epoch_in(value: &Value) -> Option<Epoch> {
    match value {
        Value::BulkString(bytes) => {
            bytes.as_slice().try_into().ok().map(u64::from_be_bytes).map(Epoch::from_u64)
        }
        _ => None,
    }
}

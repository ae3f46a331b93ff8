//! The read path: GET alone, MGET for many; with them the epoch where the last hearing is old, and at
//! level `Bounded` always the epoch and the relay's mark, so that all three are of one moment.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{BatchCall, Cell, Epoch, Error, Result, State, Version, Watermark};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect},
    link::Link,
    space::NamespaceState,
};

/// One cell to be read.
pub(crate) struct Ask {
    pub(crate) key: Bytes,
    /// Ask about this one too.
    pub(crate) about: Option<Arc<NamespaceState>>,
}

/// What the server said.
pub(crate) struct Seen {
    pub(crate) cell: Option<Bytes>,
    /// What it said of the namespace in the same breath, if it was asked.
    pub(crate) about: Option<About>,
}

/// What the server says of a namespace and tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About {
    pub(crate) epoch: Option<Epoch>,
    /// What the relay's mark proves. Its own epoch is not asked for: what was dropped stays so.
    pub(crate) watermark: Option<Version>,
}

/// What the gate sends: the bytes of cells, and on the way what is asked about their namespaces.
pub(crate) struct Reads(pub(crate) Arc<Link>);

impl BatchCall for Reads {
    type Request = Ask;
    type Reply = Seen;

    async fn one(&self, ask: Ask) -> Result<Seen> {
        if let Some(space) = ask.about {
            let spaces = std::slice::from_ref(&space);
            let question = Question::new(std::iter::once(&ask.key), spaces);
            let (mut cells, about) = Box::pin(question.ask(&self.0)).await?;
            return Ok(Seen { cell: cells.pop().flatten(), about: about.first().copied() });
        }
        let mut get = Cmd::with_capacity(2, ask.key.len() + 3);
        get.arg("GET").arg(ask.key.as_ref());
        Ok(Seen { cell: cell_in(self.0.send(&get, Effect::Read).await?)?, about: None })
    }

    async fn many(&self, asks: Vec<Ask>) -> Result<Vec<Seen>> {
        let mut spaces: Vec<Arc<NamespaceState>> = Vec::new();
        for space in asks.iter().filter_map(|ask| ask.about.as_ref()) {
            if place_of(space, &spaces).is_none() {
                spaces.push(Arc::clone(space));
            }
        }
        let question = Question::new(asks.iter().map(|ask| &ask.key), &spaces);
        let (cells, about) = question.ask(&self.0).await?;
        let about_of = |ask: &Ask| about.get(place_of(ask.about.as_ref()?, &spaces)?).copied();
        Ok(cells.into_iter().zip(&asks).map(|(cell, ask)| Seen { cell, about: about_of(ask) }).collect())
    }
}

/// One MGET of the cells of a namespace and tenant, and about it.
pub(crate) async fn read_page(
    link: &Arc<Link>,
    page: &[Bytes],
    space: &Arc<NamespaceState>,
) -> Result<Vec<Seen>> {
    let (cells, about) = Question::new(page.iter(), std::slice::from_ref(space)).ask(link).await?;
    let about = about.first().copied();
    Ok(cells.into_iter().map(|cell| Seen { cell, about }).collect())
}

/// One MGET: cells, then the epoch of each space, then what spaces have in common.
struct Question<'a> {
    spaces: &'a [Arc<NamespaceState>],
    /// Marks, and the epochs of all tenants.
    common: Vec<&'a [u8]>,
    cells: usize,
    mget: Cmd,
}

impl<'a> Question<'a> {
    fn new<'k>(keys: impl Iterator<Item = &'k Bytes> + Clone, spaces: &'a [Arc<NamespaceState>]) -> Self {
        let (cells, bytes) = keys.clone().fold((0, 0), |(count, sum), key| (count + 1, sum + key.len()));
        let mut common = Vec::new();
        for name in spaces.iter().flat_map(|space| [common_epoch(space), mark(space)]).flatten() {
            if !common.contains(&name) {
                common.push(name);
            }
        }
        let others = spaces.len() + common.len();
        let mut mget = Cmd::with_capacity(1 + cells + others, bytes + 4 + 64 * others);
        mget.arg("MGET");
        keys.for_each(|key| {
            mget.arg(key.as_ref());
        });
        spaces.iter().for_each(|space| {
            mget.arg(&space.layout.epoch);
        });
        mget.arg(&common);
        Self { spaces, common, cells, mget }
    }

    /// The cells, and what is said about each space, which hears it.
    async fn ask(self, link: &Arc<Link>) -> Result<(Vec<Option<Bytes>>, Vec<About>)> {
        let expected = self.cells + self.spaces.len() + self.common.len();
        let asked_at = Instant::now();
        let mut values = match link.send(&self.mget, Effect::Read).await? {
            Value::Array(values) if values.len() == expected => values,
            Value::ServerError(answer) => return Err(fault::of_server(&answer)),
            _ => return Err(fault::unreadable()),
        };
        let others = values.split_off(self.cells);
        let (epochs, common) = others.split_at(self.spaces.len());
        let about = self.spaces.iter().zip(epochs).map(|(space, epoch)| {
            let about = self.about(space, epoch, common);
            space.heard.hear(about.epoch, asked_at);
            about
        });
        let about = about.collect();
        Ok((values.into_iter().map(cell_in).collect::<Result<_>>()?, about))
    }

    fn about(&self, space: &NamespaceState, own: &Value, common: &[Value]) -> About {
        let said = |name| common.get(self.common.iter().position(|known| *known == name)?);
        let epoch = match common_epoch(space) {
            None => epoch_in(own),
            Some(name) => {
                let both = epoch_in(own).zip(said(name).and_then(epoch_in));
                both.map(|(own, common)| Epoch::from_u64(own.as_u64() ^ common.as_u64()))
            }
        };
        About { epoch, watermark: mark(space).and_then(said).and_then(version_in) }
    }
}

fn common_epoch(space: &NamespaceState) -> Option<&[u8]> {
    space.layout.common.as_ref().map(String::as_bytes)
}

fn mark(space: &NamespaceState) -> Option<&[u8]> {
    space.layout.mark.as_deref()
}

fn place_of(space: &Arc<NamespaceState>, among: &[Arc<NamespaceState>]) -> Option<usize> {
    among.iter().position(|known| Arc::ptr_eq(known, space))
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

fn version_in(value: &Value) -> Option<Version> {
    let Value::BulkString(bytes) = value else { return None };
    let cell = Cell::decode(Bytes::copy_from_slice(bytes))?;
    (cell.state == State::Value).then(|| Watermark::version_in(&cell.bytes)).flatten()
}

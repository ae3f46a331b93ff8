//! Reads: alone as one prepared select, or many in one round trip.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Row, postgres::PgRow};
use terrace_tier::{BatchCall, Error, Op, Reply, Result, TierKey, Token};

use crate::{
    error::{During, typed},
    number::{length, signed},
    rows,
    space::NamespaceRow,
};

/// Plain reads of one space.
pub(crate) struct Reads(pub(crate) Arc<NamespaceRow>);

/// Leases in one space of the cache role, for keys that a plain read missed.
pub(crate) struct Leases(pub(crate) Arc<NamespaceRow>);

/// A `Lease` of one key.
pub(crate) struct Ask {
    key: TierKey,
    token: i64,
    ttl: i64,
    over: Option<i64>,
    replaces: Option<i64>,
}

impl Ask {
    /// The lease that `op` asks for; `None` for another operation.
    pub(crate) fn new(key: &TierKey, op: &Op) -> Option<Self> {
        let Op::Lease { token, ttl, over, replaces } = op else { return None };
        Some(Self {
            key: key.clone(),
            token: signed(token.as_u64()),
            ttl: length(*ttl),
            over: over.map(|version| signed(version.as_u64())),
            replaces: (*replaces != Token::NONE).then(|| signed(replaces.as_u64())),
        })
    }
}

impl Reads {
    async fn select(&self, digest: [u8; 16]) -> Result<Option<Arc<PgRow>>> {
        let room = &self.0;
        let id = room.id().await?;
        let mut session = room.shared.session().await?;
        let connection = session.connection()?;
        let statement = room.shared.statements.of(room.space.role).get.clone();
        let found = sqlx::query(statement).bind(id).bind(digest.as_slice()).fetch_optional(connection).await;
        Ok(room.note(session.end(found), During::Read)?.map(Arc::new))
    }

    /// The reply that a row stands for.
    pub(crate) fn reply(&self, row: Option<&PgRow>, op: &Op) -> Result<Reply> {
        rows::read(row, self.0.space.role, op).map_err(|error| typed(error, During::Read))
    }
}

impl BatchCall for Reads {
    type Request = [u8; 16];
    type Reply = Option<Arc<PgRow>>;

    async fn one(&self, digest: [u8; 16]) -> Result<Option<Arc<PgRow>>> {
        self.select(digest).await
    }

    async fn many(&self, digests: Vec<[u8; 16]>) -> Result<Vec<Option<Arc<PgRow>>>> {
        let room = &self.0;
        let id = room.id().await?;
        let mut session = room.shared.session().await?;
        let connection = session.connection()?;
        let statement = room.shared.statements.of(room.space.role).get_many.clone();
        let wanted: Vec<&[u8]> = digests.iter().map(<[u8; 16]>::as_slice).collect();
        let found = sqlx::query(statement).bind(id).bind(wanted).fetch_all(connection).await;
        let found = room.note(session.end(found), During::Read)?;
        let mut rows = HashMap::with_capacity(found.len());
        for row in found {
            let digest: [u8; 16] = row.try_get(8).map_err(|error| typed(error, During::Read))?;
            rows.insert(digest, Arc::new(row));
        }
        Ok(digests.iter().map(|digest| rows.get(digest).cloned()).collect())
    }
}

impl BatchCall for Leases {
    type Request = Ask;
    type Reply = Arc<PgRow>;

    async fn one(&self, ask: Ask) -> Result<Arc<PgRow>> {
        self.many(vec![ask]).await?.pop().ok_or_else(missing)
    }

    async fn many(&self, asks: Vec<Ask>) -> Result<Vec<Arc<PgRow>>> {
        let room = &self.0;
        let id = room.id().await?;
        let mut session = room.shared.session().await?;
        let connection = session.connection()?;
        // In the order of the digests, so that overlapping batches wait for each other in a line.
        let mut order: Vec<usize> = (0..asks.len()).collect();
        order.sort_by_key(|index| asks[*index].key.digest);
        let sorted = || order.iter().map(|index| &asks[*index]);
        let found = sqlx::query(room.shared.statements.lease.clone())
            .bind(id)
            .bind(sorted().map(|ask| ask.key.digest.as_slice()).collect::<Vec<_>>())
            .bind(sorted().map(|ask| ask.key.bytes.as_ref()).collect::<Vec<_>>())
            .bind(sorted().map(|ask| ask.token).collect::<Vec<_>>())
            .bind(sorted().map(|ask| ask.ttl).collect::<Vec<_>>())
            .bind(sorted().map(|ask| ask.over).collect::<Vec<_>>())
            .bind(sorted().map(|ask| ask.replaces).collect::<Vec<_>>())
            .fetch_all(connection)
            .await;
        let found = room.note(session.end(found), During::Read)?;
        in_order(&order, found).ok_or_else(missing)
    }
}

/// Whether a plain read may answer `op`. In a cache a miss of a lease needs one trip more, and a hit
/// a third of the work of the function that grants leases.
pub(crate) fn is_read(op: &Op) -> bool {
    matches!(op, Op::Get | Op::Lease { .. })
}

/// Rows of a function that answers in the order of the digests, put back in the caller's order.
pub(crate) fn in_order(order: &[usize], rows: Vec<PgRow>) -> Option<Vec<Arc<PgRow>>> {
    let mut places: Vec<Option<Arc<PgRow>>> = vec![None; order.len()];
    if rows.len() != order.len() {
        return None;
    }
    for (index, row) in order.iter().zip(rows) {
        places[*index] = Some(Arc::new(row));
    }
    places.into_iter().collect()
}

pub(crate) fn missing() -> Error {
    Error::new(terrace_tier::ErrorKind::Backend, "the server left out an answer")
}

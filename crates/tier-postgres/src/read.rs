//! Reads and leases: one prepared statement for one key, or one for many callers.

use std::{collections::HashMap, sync::Arc};

use sqlx::{Row, postgres::PgRow};
use terrace_tier::{BatchCall, Op, Reply, Result, TierKey, Token};

use crate::{
    error::{Phase, may_be_of_one_key, missing_reply, unreadable},
    namespace::NamespaceRow,
    sql::{
        numbers::{millis, signed},
        rows,
    },
    write::lock_wait,
};

/// Plain reads in one namespace.
pub(crate) struct ReadCall(pub(crate) Arc<NamespaceRow>);

/// Leases in one namespace of the cache role, for keys that a plain read missed.
pub(crate) struct LeaseCall(pub(crate) Arc<NamespaceRow>);

/// The arguments of an [`Op::Lease`].
#[derive(Clone)]
pub(crate) struct LeaseRequest {
    key: TierKey,
    token: i64,
    ttl: i64,
    over: Option<i64>,
    replaces: Option<i64>,
}

impl LeaseRequest {
    /// The request of `op`, or `None` for another operation than a lease.
    pub(crate) fn new(key: &TierKey, op: &Op) -> Option<Self> {
        let Op::Lease { token, ttl, over, replaces } = op else { return None };
        Some(Self {
            key: key.clone(),
            token: signed(token.as_u64()),
            ttl: millis(*ttl),
            over: over.map(|version| signed(version.as_u64())),
            replaces: (*replaces != Token::NONE).then(|| signed(replaces.as_u64())),
        })
    }
}

impl ReadCall {
    /// The reply to `op` from the row of its key.
    pub(crate) fn reply(&self, found: Option<&PgRow>, op: &Op) -> Result<Reply> {
        rows::read(found, self.0.namespace.role, op).map_err(|error| unreadable(error, Phase::Read))
    }
}

impl BatchCall for ReadCall {
    type Request = [u8; 16];
    type Reply = Option<Arc<PgRow>>;

    async fn one(&self, digest: [u8; 16]) -> Result<Option<Arc<PgRow>>> {
        let row = &self.0;
        let id = row.id().await?;
        let mut session = row.shared.pool.session().await?;
        let connection = session.connection()?;
        let statement = row.shared.statements().of(row.namespace.role).get.clone();
        let found = sqlx::query(statement).bind(id).bind(digest.as_slice()).fetch_optional(connection).await;
        Ok(row.typed(session.end(found), Phase::Read)?.map(Arc::new))
    }

    async fn many(&self, digests: Vec<[u8; 16]>) -> Result<Vec<Option<Arc<PgRow>>>> {
        let row = &self.0;
        let id = row.id().await?;
        let mut session = row.shared.pool.session().await?;
        let connection = session.connection()?;
        let statement = row.shared.statements().of(row.namespace.role).get_many.clone();
        let requested: Vec<&[u8]> = digests.iter().map(<[u8; 16]>::as_slice).collect();
        let found = sqlx::query(statement).bind(id).bind(requested).fetch_all(connection).await;
        let found = row.typed(session.end(found), Phase::Read)?;
        let mut by_digest = HashMap::with_capacity(found.len());
        for cell in found {
            let digest: [u8; 16] = cell.try_get(8).map_err(|error| unreadable(error, Phase::Read))?;
            by_digest.insert(digest, Arc::new(cell));
        }
        Ok(digests.iter().map(|digest| by_digest.get(digest).cloned()).collect())
    }
}

impl BatchCall for LeaseCall {
    type Request = LeaseRequest;
    /// `None` says that the statement was rolled back, perhaps because of another lease in it. The caller sends
    /// its lease alone.
    type Reply = Option<Arc<PgRow>>;

    async fn one(&self, request: LeaseRequest) -> Result<Self::Reply> {
        self.many(vec![request]).await?.pop().ok_or_else(missing_reply)
    }

    async fn many(&self, requests: Vec<LeaseRequest>) -> Result<Vec<Self::Reply>> {
        let row = &self.0;
        let id = row.id().await?;
        let mut session = row.shared.pool.session().await?;
        let connection = session.connection()?;
        // Sorted by digest, so that overlapping batches cannot deadlock.
        let mut order: Vec<usize> = (0..requests.len()).collect();
        order.sort_by_key(|index| requests[*index].key.digest);
        let sorted = || order.iter().map(|index| &requests[*index]);
        let shared = requests.len() > 1;
        let mut query = sqlx::query(row.shared.statements().lease.of(shared).clone())
            .bind(id)
            .bind(sorted().map(|request| request.key.digest.as_slice()).collect::<Vec<_>>())
            .bind(sorted().map(|request| request.key.bytes.as_ref()).collect::<Vec<_>>())
            .bind(sorted().map(|request| request.token).collect::<Vec<_>>())
            .bind(sorted().map(|request| request.ttl).collect::<Vec<_>>())
            .bind(sorted().map(|request| request.over).collect::<Vec<_>>())
            .bind(sorted().map(|request| request.replaces).collect::<Vec<_>>());
        if shared {
            query = query.bind(lock_wait(row));
        }
        let answered = query.fetch_all(connection).await;
        let answered = session.end(answered);
        if shared && answered.as_ref().err().is_some_and(may_be_of_one_key) {
            return Ok(requests.iter().map(|_| None).collect());
        }
        let found = row.typed(answered, Phase::Read)?;
        row.shared.cleaner.wrote(requests.len());
        let rows = rows::in_request_order(&order, found).ok_or_else(missing_reply)?;
        Ok(rows.into_iter().map(Some).collect())
    }
}

/// Whether a plain read may answer `op`. In a cache a lease that misses then costs one trip more, but a
/// lease that hits costs the server a third of the function that grants leases.
pub(crate) fn is_read(op: &Op) -> bool {
    matches!(op, Op::Get | Op::Lease { .. })
}

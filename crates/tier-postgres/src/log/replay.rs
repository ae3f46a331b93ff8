//! The outbox as a relay reads it: from a position that another process may have stored.

use async_trait::async_trait;
use bytes::Bytes;
use terrace_tier::{Notice, NumberedChanges, Replay, Result};

use super::{
    Log,
    outbox::{Changes, Position, standby_error},
};
use crate::{
    connection::timeout::{LOOKUP_TIMEOUT, within},
    error::Phase,
};

#[async_trait]
impl Replay for Log {
    async fn end(&self) -> Result<Bytes> {
        within(LOOKUP_TIMEOUT, async { Ok(self.end_position().await?.to_bytes()) }).await
    }

    async fn since(&self, namespace: &str, position: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let read = self.changes_since(namespace, position).await?;
        Ok(read.map(|(changes, next)| (changes.into_iter().map(|(_, notice)| notice).collect(), next)))
    }

    async fn changes_since(&self, namespace: &str, position: &Bytes) -> Result<Option<NumberedChanges>> {
        let Some(position) = Position::from_bytes(position) else { return Ok(None) };
        within(LOOKUP_TIMEOUT, self.read_since(namespace, position)).await
    }
}

impl Log {
    async fn end_position(&self) -> Result<Position> {
        let shared = &self.0;
        shared.prepare_schema().await?;
        let mut session = shared.pool.session().await?;
        let position = Position::of(session.connection()?, &shared.statements().outbox).await;
        shared.typed(session.end(position), Phase::Read)?.ok_or_else(standby_error)
    }

    async fn read_since(&self, namespace: &str, mut position: Position) -> Result<Option<NumberedChanges>> {
        if !self.end_position().await?.is_same_server(&position) {
            return Ok(None);
        }
        let shared = &self.0;
        let mut session = shared.pool.session().await?;
        let namespaces = [namespace.to_owned()];
        // Without changes of copies: a relay that drops copies in this very schema must not read of them.
        let read =
            position.read(session.connection()?, &shared.statements().outbox, &namespaces, false).await;
        Ok(match shared.typed(session.end(read), Phase::Read)?.changes {
            Changes::Complete(changes) => {
                let notices =
                    changes.into_iter().map(|change| (Some(change.number), change.notice)).collect();
                Some((notices, position.to_bytes()))
            }
            Changes::Gap => None,
        })
    }
}

//! The outbox as a relay reads it: from a position that another process may have left.

use async_trait::async_trait;
use bytes::Bytes;
use terrace_tier::{Error, ErrorKind, Notice, Replay, Result};

use crate::{
    error::During,
    log::Log,
    outbox::{Position, Seen},
    setup::{LOOK_TIMEOUT, within},
    shared::Shared,
};

#[async_trait]
impl Replay for Log {
    async fn end(&self) -> Result<Bytes> {
        within(LOOK_TIMEOUT, async { Ok(end(&self.0).await?.to_bytes()) }).await
    }

    async fn since(&self, namespace: &str, place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let Some(position) = Position::from_bytes(place) else { return Ok(None) };
        within(LOOK_TIMEOUT, read(&self.0, namespace, position)).await
    }
}

async fn end(shared: &std::sync::Arc<Shared>) -> Result<Position> {
    shared.prepared().await?;
    let mut session = shared.session().await?;
    let found = Position::of(session.connection()?, &shared.statements.outbox).await;
    let found = shared.note(session.end(found), During::Read)?;
    found.ok_or_else(|| {
        Error::new(ErrorKind::ReadOnly, "a standby has no log of its own: connect to the primary")
    })
}

async fn read(
    shared: &std::sync::Arc<Shared>,
    namespace: &str,
    mut position: Position,
) -> Result<Option<(Vec<Notice>, Bytes)>> {
    if !end(shared).await?.is_of_the_server_of(&position) {
        return Ok(None);
    }
    let mut session = shared.session().await?;
    let namespaces = [namespace.to_owned()];
    // What a relay drops from a cache tier in this very schema is no news to it.
    let seen = position.read(session.connection()?, &shared.statements.outbox, &namespaces, false).await;
    Ok(match shared.note(session.end(seen), During::Read)? {
        Seen::All(changes) => {
            let notices = changes.into_iter().map(|change| change.notice).collect();
            Some((notices, position.to_bytes()))
        }
        Seen::Gap => None,
    })
}

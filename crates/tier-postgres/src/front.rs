//! Write-behind fronts: who may write the records of a namespace, and in which term.

use std::time::Duration;

use async_trait::async_trait;
use sqlx::Row;
use terrace_tier::{
    Error, ErrorKind, FrontClaim, FrontStore, FrontTerm, Result, Role, Term, Version, front_lost,
    held_by_another, replaced_front,
};

use crate::{
    connection::timeout::{LOOKUP_TIMEOUT, within},
    error::Phase,
    sql::numbers::{millis, signed, unsigned},
    tier::PostgresTier,
};

#[async_trait]
impl FrontStore for PostgresTier {
    async fn open_front(&self, claim: &FrontClaim) -> Result<FrontTerm> {
        let row = &self.row;
        // The row of the namespace must be there, and the schema with it.
        row.id().await?;
        let open = async {
            let mut session = row.shared.pool.session().await?;
            let opened = sqlx::query(row.shared.statements().fronts.open.clone())
                .bind(&row.namespace.name)
                .bind(signed(claim.id))
                .bind(signed(claim.nonce))
                .bind(claim.known.iter().copied().map(signed).collect::<Vec<_>>())
                .bind(claim.is_resumed)
                .bind(claim.hold.map_or(-1, millis))
                .bind(claim.takes_over)
                .fetch_one(session.connection()?)
                .await;
            let opened = row.typed(session.end(opened), Phase::Write)?;
            let (refused, term, high) = (opened.try_get(0), opened.try_get(1), opened.try_get(2));
            let (refused, term, high): (Option<String>, Option<i64>, Option<i64>) =
                row.typed(refused.and_then(|refused| Ok((refused, term?, high?))), Phase::Write)?;
            match (refused.as_deref(), term, high) {
                (None, Some(term), Some(high)) => Ok(FrontTerm {
                    term: Term::from_u64(unsigned(term)),
                    high: Version::from_u64(unsigned(high)),
                }),
                (Some("replaced"), ..) => Err(replaced_front()),
                _ => Err(held_by_another()),
            }
        };
        within(LOOKUP_TIMEOUT, open).await.map_err(unknown_if_late)
    }

    async fn hold_front(&self, term: Term, hold: Duration) -> Result<()> {
        self.change_hold(term, Some(millis(hold))).await
    }

    async fn release_front(&self, term: Term) -> Result<()> {
        self.change_hold(term, None).await
    }
}

impl PostgresTier {
    async fn change_hold(&self, term: Term, hold: Option<i64>) -> Result<()> {
        let row = &self.row;
        let change = async {
            let mut session = row.shared.pool.session().await?;
            let is_last = sqlx::query(row.shared.statements().fronts.hold.clone())
                .bind(&row.namespace.name)
                .bind(signed(term.as_u64()))
                .bind(hold)
                .fetch_one(session.connection()?)
                .await;
            let is_last = session.end(is_last.and_then(|row| row.try_get::<bool, _>(0)));
            if row.typed(is_last, Phase::Write)? { Ok(()) } else { Err(front_lost()) }
        };
        within(row.namespace.budget, change).await.map_err(unknown_if_late)
    }

    /// The store's part of write-behind, which a cache tier has not.
    pub(crate) fn fronts(&self) -> Option<&dyn FrontStore> {
        if self.row.namespace.role == Role::Store { Some(self) } else { None }
    }
}

/// A statement without an answer in time may have happened.
fn unknown_if_late(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Timeout => {
            Error::new(ErrorKind::Unknown, "no answer to a change of the front in time").with_source(error)
        }
        _ => error,
    }
}

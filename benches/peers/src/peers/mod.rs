//! The peers, one file each: a constant that says what the peer leaves out, and its implementations of the
//! traits in [`work`](crate::work).

pub mod moka;
pub mod quick_cache;
pub mod redis;
pub mod sqlx;
pub mod terrace;
pub mod tokio_postgres;

use crate::{peer::Peer, work::read_through::Candidate};

/// All peers.
pub const ALL: &[&Peer] = &[
    &terrace::PEER,
    &redis::PEER,
    &moka::PEER,
    &moka::OVER_REDIS,
    &quick_cache::PEER,
    &quick_cache::OVER_REDIS,
    &sqlx::PEER,
    &tokio_postgres::PEER,
];

/// All that read through Redis; the raw client is first.
pub const READ_THROUGHS: &[Candidate] =
    &[redis::READ_THROUGH, moka::READ_THROUGH, quick_cache::READ_THROUGH, terrace::READ_THROUGH];

/// All that load, also with settings that only stampedes need. moka's single flight over Redis is first, since the
/// raw client has none.
#[must_use]
pub fn crowds() -> Vec<&'static Candidate> {
    const FIRST: &Candidate = &moka::READ_THROUGH;
    let others = READ_THROUGHS.iter().filter(|candidate| candidate.usage != FIRST.usage);
    [FIRST].into_iter().chain(others).chain([&terrace::READ_THROUGH_LEASE]).collect()
}

//! The peers, one file each: a constant that says what the peer leaves out, and its implementations of the
//! traits in [`work`](crate::work).

pub mod cached;
pub mod cachet;
pub mod foyer;
pub mod fred;
pub mod hitbox;
pub mod moka;
pub mod multi_tier_cache;
pub mod oxcache;
pub mod quick_cache;
pub mod redis;
pub mod sqlx;
pub mod terrace;
pub mod tiercache;
pub mod tokio_postgres;

use std::{error, fmt};

use crate::{
    Error, Result,
    data::User,
    peer::Peer,
    work::{loaders::Loader, read_through::Candidate},
};

/// The error of a loader, for peers that take only types with `std::error::Error`.
#[derive(Debug)]
pub struct LoadError(Error);

impl fmt::Display for LoadError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl error::Error for LoadError {}

/// Loads with an error of a type.
async fn loaded(loader: Loader, n: usize) -> Result<User, LoadError> {
    loader.load(n).await.map_err(LoadError)
}

/// All peers.
pub const ALL: &[&Peer] = &[
    &terrace::PEER,
    &redis::PEER,
    &fred::PEER,
    &sqlx::PEER,
    &tokio_postgres::PEER,
    &moka::PEER,
    &moka::OVER_REDIS,
    &quick_cache::PEER,
    &quick_cache::OVER_REDIS,
    &foyer::PEER,
    &foyer::OVER_REDIS,
    &cached::PEER,
    &cachet::PEER,
    &hitbox::PEER,
    &multi_tier_cache::PEER,
    &oxcache::PEER,
    &tiercache::PEER,
];

/// All that read through Redis; the raw client is first.
pub const READ_THROUGHS: &[Candidate] = &[
    redis::READ_THROUGH,
    fred::READ_THROUGH,
    moka::READ_THROUGH,
    quick_cache::READ_THROUGH,
    foyer::READ_THROUGH,
    cached::READ_THROUGH,
    cachet::READ_THROUGH,
    hitbox::READ_THROUGH,
    multi_tier_cache::READ_THROUGH,
    oxcache::READ_THROUGH,
    tiercache::READ_THROUGH,
    terrace::READ_THROUGH,
];

/// All that load, also with settings that only stampedes need. moka's single flight over Redis is first, since the
/// raw client has none.
#[must_use]
pub fn crowds() -> Vec<&'static Candidate> {
    const FIRST: &Candidate = &moka::READ_THROUGH;
    let others = READ_THROUGHS.iter().filter(|candidate| candidate.usage != FIRST.usage);
    [FIRST].into_iter().chain(others).chain([&terrace::READ_THROUGH_LEASE]).collect()
}

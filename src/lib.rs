//! Multi-tier cache: an in-process near tier, Redis, Postgres and SQLite in one fenced chain.
//!
//! ```
//! use std::time::Duration;
//! use terrace::{Cache, Memory, Ttl};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> terrace::Result<()> {
//! let users: Cache<u64, String> = Cache::builder("users")
//!     .near(Memory::entries(10_000))
//!     // .tier(Redis::new("localhost:6379")?)      copies that all processes share
//!     // .store(Postgres::new(&database_url)?)     the records themselves
//!     .expire(Ttl::secs(60).jitter(0.1).stale_if_error(Duration::from_secs(600)))
//!     .build()?;
//!
//! // The loader runs only on a miss, and once for all callers of that moment.
//! let user = users.get_or_load(&7, || async { find(7).await }).await?;
//! println!("{user} served from {:?}", user.served().from);
//!
//! users.put(&7, "Ada Lovelace".to_owned()).await?;
//! assert_eq!(users.get(&7).await?.as_deref(), Some(&"Ada Lovelace".to_owned()));
//! users.invalidate(&7).await?;
//! # Ok(())
//! # }
//! # async fn find(_id: u64) -> Result<String, std::io::Error> { Ok("Ada".to_owned()) }
//! ```
//!
//! # One truth for each cache
//!
//! With a **store**, the records live there: they never expire by a time to live, `put` and
//! `remove` change them, and every nearer tier keeps copies. Without a store, the **origin** behind the
//! loader is the truth: all tiers keep copies, which expire and may be lost, and `invalidate` says that
//! the origin has changed. The same Postgres or SQLite handle serves in either role.
//!
//! # Which module is for you
//!
//! Each item has one place.
//!
//! | you | look in |
//! |---|---|
//! | use a cache in an application | the root of this crate; you need nothing else |
//! | choose the tiers by TOML or by environment variables | `config` (feature `config`) |
//! | write a policy: how long values live, which are kept, how loads are shared | [`policy`] |
//! | write a shared tier, over a server of your own | [`tier`]: [`tier::Swap`] is the shortest way |
//! | write a near tier, over an eviction engine of your own | [`near`] |
//! | read or write the keys of a cache in another program | [`key`] |
//! | watch a cache in operation | [`telemetry`] |
//!
//! In the root:
//!
//! - [`Cache`] has every call that an application makes, [`Builder`] every setting. [`Tenants`] gives one
//!   cache for each tenant. [`Cached`] is the value that a read gives.
//! - Near tiers: [`Memory`], and `Quick` with the feature `quick`. Remote tiers, each with the
//!   feature of its name: `Redis`, `Postgres`, `Sqlite`.
//! - Policies: [`Ttl`], [`StaleWhileRevalidate`], [`SizeLimit`], [`WriteAround`] and others.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "config")]
pub mod config;

pub use terrace_core::{
    Backend, BoxError, Builder, Cached, Clock, Codec, Compression, DecodeError, Digest, Error, ErrorKind,
    Event, Item, Key, Level, LoadContext, ManualClock, Many, MissingKeys, NoNear, Observer, Result, Served,
    Source, Stats, Tenants, TierConfig, TierSettings, TierStats, Value, Version,
};
pub use terrace_policies::{
    AdmitAll, CacheAside, Forever, Lease, LeaseOrStale, NoCoalescing, SingleFlight, SizeLimit, StaleIfError,
    StaleWhileRevalidate, Strict, Ttl, WriteAround, WriteBehind, WriteThrough,
};
#[cfg(feature = "memory")]
pub use terrace_tier_memory::Memory;
#[cfg(feature = "quick")]
pub use terrace_tier_memory::Quick;
#[cfg(feature = "postgres")]
pub use terrace_tier_postgres::{PendingInvalidation, Postgres, PostgresBuilder};
#[cfg(feature = "redis")]
pub use terrace_tier_redis::{Redis, RedisBuilder};
#[cfg(feature = "sqlite")]
pub use terrace_tier_sqlite::Sqlite;

/// The settings of [`WriteBehind`], and what a cache with it tells of its backlog.
pub mod write_behind {
    pub use terrace_core::{BacklogStats, DeadLetter, DeadLetters};
    pub use terrace_policies::{Backlog, FullJitter, WhenFull};
}

/// Records which keys a cache is asked for, for the tool `terrace-bench`.
pub mod recorder {
    pub use terrace_core::{Recorded, Recorder};
}

/// For authors of policies: the traits, the questions they are asked, and their answers.
pub mod policy {
    pub use terrace_core::policy::{
        Admission, AdmitContext, BehindPlan, Coalesce, Copies, Expiry, Freshness, FrontPlace, Lifetime,
        OnStale, RenewalContext, StaleHit, Stampede, WriteContext, WritePlan, WritePolicy,
    };
    pub use terrace_policies::{EarlyRefresh, XFetch};
}

/// For authors of near tiers: the trait, its keys and its entries.
pub mod near {
    pub use terrace_core::near::{Entry, Near, NearSize, TenantId, TenantKey, TenantKeyRef};
}

/// For programs that read or write the keys of a cache themselves: the format of keys.
pub mod key {
    pub use terrace_core::key::{
        BorrowedKey, EncodedKey, MAX_KEY_BYTES, MAX_LONG_KEY_BYTES, decode_key, encode_key,
    };
}

/// For operation: the login of a server that is asked for at each connect, and what
/// `Cache::ready` finds wrong with a server.
pub mod server {
    pub use terrace_tier::{Credentials, CredentialsProvider, Finding, FindingTopic};
}

/// For monitoring: metrics, health and sums over all processes (feature `telemetry`), and the parts of
/// the statistics that they read.
pub mod telemetry {
    pub use terrace_core::{ClassStats, LATENCY_BOUNDS, Latencies, StatsSource};
    #[cfg(feature = "telemetry")]
    pub use terrace_telemetry::{
        CacheHealth, CacheSums, Fleet, FleetSums, Health, Kind, METRICS, Metric, Status, Telemetry,
        TierHealth, TierSums,
    };
}

/// For authors of shared tiers: the contract of the crate `terrace-tier`.
///
/// Begin with [`Swap`](tier::Swap), which makes a tier of get and compare-and-swap.
pub mod tier {
    pub use terrace_tier::{
        BatchCall, BatchLimits, Batcher, Cell, Change, Condition, Counters, Deadlines, Epoch, Fence,
        FindingWatcher, Follower, FrontClaim, FrontRow, FrontStore, FrontTerm, HEADER_LEN, Invalidation,
        InvalidationLog, KeyDigest, KeyName, LeaseWaiter, Moment, Namespace, NamespaceGuard,
        NamespaceRegistry, Notice, NumberedChanges, Op, Order, Publication, Publish, Replay, Reply, Role,
        Scope, Secrets, SentAt, State, Stored, Swap, Swapping, Term, Tier, TierKey, Timestamp, Token,
        Watermark, direct_write_refused, front_lost, held_by_another, key_digest, lease, replaced_front,
        transition, unexpected,
    };
}

/// A cache whose near tier has the type [`Memory`] unless the third parameter names another.
///
/// The near tier is off until the builder's `near` gives one. With the type [`NoNear`] there is none.
#[cfg(feature = "memory")]
pub type Cache<K, V, N = Memory<K, V>> = terrace_core::Cache<K, V, N>;

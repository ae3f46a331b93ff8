//! Stacks chosen by configuration: the same application code on whatever tiers there are.
//!
//! A [`Stack`] is made once, from TOML, from a value of the application's own settings
//! ([`Config`] reads through serde), or from the environment. It makes each backend once, and its
//! caches share them. Nothing is connected yet: a server that is away is a lost tier.
//!
//! # What a database is, a configuration does not decide
//!
//! Where the records of a cache are is a truth of the application, and a configuration must not
//! change it. So the call says it:
//!
//! - [`Stack::builder`]: a cache of something that lives elsewhere, behind a loader. Every tier of
//!   the stack keeps copies that end, the database too, as the farthest one.
//! - [`Stack::records`]: the cache keeps records. They live in the database, in its role of a store,
//!   and Redis and memory keep copies. A stack without a durable database refuses: memory, Redis and
//!   SQLite in memory forget.
//!
//! One setting narrows this, and never turns the one into the other: `role = "store"` keeps copies
//! out of a database that is for records alone, `role = "tier"` keeps records out of one that may be
//! wiped.
//!
//! # TOML
//!
//! Only what is there is used, and at least one of the four tables must be. Unknown fields are errors.
//!
//! ```toml
//! ttl_seconds = 60                      # five minutes unless set
//! jitter = 0.1                          # part of a life that is cut off at random, 0 to 1
//! negative_ttl_seconds = 2              # absences are not kept unless set
//! stale_while_revalidate_seconds = 30
//! stale_if_error_seconds = 600
//! level = "fenced"                      # or "ttl", "bounded", "strong": see below
//! stampede = "single_flight"            # or "unshared", "lease", "lease_or_stale"
//!
//! [memory]                              # the near tier of each cache
//! entries = 10000                       # 0 is off
//! ttl_seconds = 10                      # the longest life of a copy here; in any tier
//!
//! [redis]
//! url = "localhost:6379"                # with or without redis://; rediss:// is TLS
//! prefix = "shop"                       # terrace unless set
//! allow_plaintext = false               # consent to a host that is not this one, without TLS
//! budget_ms = 50                        # how long one request may take here; in any remote tier
//!
//! [postgres]
//! url = "postgres://user:password@localhost/shop"
//! schema = "terrace"
//! pool_size = 8
//! role = "both"                         # or "store", "tier"
//!
//! [sqlite]                              # replaces of postgres, no server
//! path = "shop.db"                      # or ":memory:", which keeps no records
//! role = "both"
//! ```
//!
//! # Level and stampede policy
//!
//! Both are those of every cache of the stack; the application may set another on the builder of one
//! cache, and read at another level by [`Cache::with`](terrace_core::Cache::with). A cache that cannot
//! keep the level is refused when it is built, as in code
//! ([`Builder::level`](terrace_core::Builder::level)):
//!
//! | `level` | refused |
//! |---|---|
//! | `"ttl"` | for records |
//! | `"fenced"`, unless set | never |
//! | `"bounded"`, with `bound_ms = 500` beside it | below 100 ms; for copies that live longer than the bound, unless the cache was given `changes`; for records in SQLite behind Redis |
//! | `"strong"` | for copies |
//!
//! With `"lease"` all processes that share the stack's Redis or Postgres tier run one load of a key; with
//! `"lease_or_stale"` who would wait gets the stale value, where there is one.
//!
//! # Environment
//!
//! | variable | |
//! |---|---|
//! | `REDIS_URL` | adds Redis |
//! | `REDIS_ALLOW_PLAINTEXT` | `true`: consent to another host without TLS, as inside of one compose network |
//! | `DATABASE_URL` | `postgres://..`, or `sqlite:PATH`: the database, instead of any other |
//! | `CACHE_TTL_SECONDS` | the time to live |
//! | `CACHE_MEMORY_ENTRIES` | entries of the near tier of each cache: 10,000 unless set, 0 is off |
//!
//! An empty variable is as good as none. Nothing set is memory alone, or what the application falls
//! back on: `Config::embedded("shop.db").with_env()`.

mod backends;
mod consistency;
mod env;
mod secret;
mod settings;
mod stack;
mod text;

pub use consistency::{LevelConfig, StampedeConfig};
pub use secret::Secret;
pub use settings::{Config, DatabaseRole, MemoryConfig, PostgresConfig, RedisConfig, SqliteConfig};
pub use stack::Stack;

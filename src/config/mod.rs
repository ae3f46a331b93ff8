//! Stacks of tiers chosen by configuration: one application code runs on any of them.
//!
//! A [`Stack`] is made once, from TOML, from a part of the application's own settings ([`Config`]
//! implements `Deserialize`), or from the environment. It makes each backend once, and its caches share
//! them. It connects to no server: a server that is away is a lost tier.
//!
//! # The code decides where records live
//!
//! A configuration must not change where the records of a cache live. So the application says it with
//! the call:
//!
//! - [`Stack::builder`]: the values live elsewhere, behind a loader. Every tier of the stack keeps copies
//!   that expire; the database is the farthest of these tiers.
//! - [`Stack::records`]: the cache keeps records. They live in the database, which is then a store; Redis
//!   and memory keep copies. A stack without a durable database refuses, because memory, Redis and SQLite
//!   in memory forget.
//!
//! The setting `role` of a database narrows this, and never turns one into the other: `role = "store"`
//! keeps copies out of a database that is for records only; `role = "tier"` keeps records out of a
//! database that may be wiped.
//!
//! # TOML
//!
//! A stack has the tiers whose tables the text has; it needs at least one of the four. Unknown fields are
//! errors.
//!
//! ```toml
//! ttl_seconds = 60                      # five minutes unless set
//! jitter = 0.1                          # part of a life that is cut off at random, 0 to 1
//! negative_ttl_seconds = 2              # absences are not kept unless set
//! stale_while_revalidate_seconds = 30
//! stale_if_error_seconds = 600
//! level = "fenced"                      # or "ttl", "bounded", "strong": see below
//! stampede = "single_flight"            # or "unshared", "lease", "lease_or_stale"
//! max_loads = 40                        # loads at a time of each cache in a process; 128 unless set
//! soft_timeout_ms = 300                 # how long a load may keep a stale value waiting; a second unless set
//!
//! [memory]                              # the near tier of each cache
//! entries = 10000                       # as many unless set; 0 turns it off
//! ttl_seconds = 10                      # the longest life of a copy; every tier has this setting
//!
//! [redis]
//! url = "rediss://cache.example"        # or host:port; redis:// is without TLS
//! username = "shop"                     # a login may stand in the URL too
//! password_file = "/run/secrets/redis"  # or password = ".."
//! tls_ca_file = "/etc/redis/ca.pem"     # with rediss://; the system's authorities unless set
//! prefix = "shop"                       # terrace unless set
//! allow_plaintext = false               # whether a connection without TLS to another host is allowed
//! budget_ms = 50                        # how long one request may take; every remote tier has this
//!
//! [postgres]
//! url = "postgres://localhost/shop"     # or host, port, database
//! user = "shop"                         # a login may stand in the URL too
//! password_file = "/run/secrets/pg"     # or password = ".."
//! schema = "terrace"
//! pool_size = 8
//! logged_copies = false                 # true: copies survive a crash of the server
//! role = "both"                         # or "store", "tier"
//!
//! [sqlite]                              # in place of postgres, without a server
//! path = "shop.db"                      # or ":memory:", which keeps no records
//! role = "both"
//! ```
//!
//! # Level and stampede policy
//!
//! Every cache of the stack has this level and this stampede policy. The application may set others on
//! the builder of one cache, and may read at another level by
//! [`Cache::with`](terrace_core::Cache::with). A cache that cannot keep its level does not build, as
//! without a configuration ([`Builder::level`](terrace_core::Builder::level)):
//!
//! | `level` | refused |
//! |---|---|
//! | `"ttl"` | for records |
//! | `"fenced"`, unless set | never |
//! | `"bounded"`, with for instance `bound_ms = 500` | below 100 ms; for copies that live longer than the bound, unless the cache has [`watch_origin`](terrace_core::Builder::watch_origin); for records in SQLite behind Redis |
//! | `"strong"` | for copies |
//!
//! With `"lease"`, all processes that share the stack's Redis or Postgres tier run one load of a key. With
//! `"lease_or_stale"`, a caller that would wait gets the stale value instead, if there is one.
//!
//! # Environment, several stacks in one file
//!
//! `docs/configuration.md`, which follows, has the variables, says which setting wins, and what is refused.
//! Without any variable, [`Stack::from_env`] gives memory only. An application may start from other settings:
//! `Config::embedded("shop.db").with_env()`.
//!
#![doc = include_str!("../../docs/configuration.md")]

mod address;
mod backends;
mod consistency;
mod env;
mod named;
mod secret;
mod settings;
mod stack;
mod text;

pub use consistency::{LevelConfig, StampedeConfig};
pub use secret::{Secret, SecretFile};
pub use settings::{Config, DatabaseRole, MemoryConfig, PostgresConfig, RedisConfig, SqliteConfig};
pub use stack::Stack;

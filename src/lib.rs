//! Multi-tier cache: an in-process near tier, Redis, Postgres and SQLite in one fenced chain.

pub use terrace_core::*;
#[cfg(feature = "memory")]
pub use terrace_tier_memory::Memory;
#[cfg(feature = "quick")]
pub use terrace_tier_memory::Quick;

/// A cache with the default near tier, `Memory`.
#[cfg(feature = "memory")]
pub type Cache<K, V, N = Memory<K, V>> = terrace_core::Cache<K, V, N>;

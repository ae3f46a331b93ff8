//! Near tiers of terrace: [`Memory`] over moka, [`Quick`] over quick_cache.
//!
//! Both keep typed values behind one `Arc`, bounded by a number of entries or by a weight in bytes.
//! The engines only evict; the cache checks the deadlines of the entries.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "quick")]
mod quick;

#[cfg(feature = "memory")]
pub use memory::Memory;
#[cfg(feature = "quick")]
pub use quick::Quick;

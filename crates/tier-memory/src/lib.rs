//! Near tiers of terrace: [`Memory`] over moka, [`Quick`] over quick_cache.
//!
//! Both keep typed values behind one `Arc`, bounded by entries or by weight in bytes. Deadlines
//! are the chain's business; the engines only evict.

#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "quick")]
mod quick;

#[cfg(feature = "memory")]
pub use memory::Memory;
#[cfg(feature = "quick")]
pub use quick::Quick;

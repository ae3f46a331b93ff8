//! Writes: a write changes the authority first, then the copies from far to near, and the near tier
//! last.

mod expire;
mod guard;
mod put;
mod remove;
mod unfenced;

pub(crate) use put::PutOutcome;
pub(crate) use remove::Removal;
pub(crate) use unfenced::{UnfencedFill, UnfencedFills};

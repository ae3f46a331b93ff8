//! Stacks under test: their settings, their servers and their caches.

mod cache;
mod redis_admin;
mod server;
mod spec;

pub(crate) use cache::{BuiltCache, EitherCache, StackCache, with_cache};
pub(crate) use server::Servers;
pub(crate) use spec::{NearEngine, StackOptions, StackSpec};

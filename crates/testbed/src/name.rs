//! Names that no other test uses.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// A name for key prefixes and schemas that no other test of this run uses: the given start,
/// followed by letters, digits and underscores.
#[must_use]
pub fn unique_name(start: &str) -> String {
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("{start}_{:x}_{:x}_{nanos:x}", std::process::id(), count())
}

/// The next number of this process.
pub(crate) fn count() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_repeat() {
        assert_ne!(unique_name("a"), unique_name("a"));
    }
}

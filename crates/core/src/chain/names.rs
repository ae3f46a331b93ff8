//! Names of tiers.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Keeps a tier's name for good, once: every read's handle carries one, and a counted reference to
/// it would move between the cores of all readers. A process has as many names as kinds of tiers.
pub(super) fn interned(name: &str) -> &'static str {
    static NAMES: Mutex<Option<HashSet<&'static str>>> = Mutex::new(None);
    let mut names = NAMES.lock();
    let names = names.get_or_insert_default();
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    kept
}

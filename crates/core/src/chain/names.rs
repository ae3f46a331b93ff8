//! Names of tiers get a static lifetime here.

use std::collections::HashSet;

use parking_lot::Mutex;

/// Returns the name with a static lifetime. Every read's handle carries the name of a tier, and a
/// reference count would move between the cores of all readers. A process has one name for each kind of
/// tier, so the leak is bounded.
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

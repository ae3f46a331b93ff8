//! The contract of a near tier, checked on both engines.

use std::sync::Arc;

use terrace_core::{
    Version,
    near::{Entry, Near, TenantId, TenantKey, TenantKeyRef},
};
use terrace_tier::{Deadlines, Timestamp};
use terrace_tier_memory::{Memory, Quick};

type Key = String;
type Value = Vec<u8>;

fn entry(value: Option<Value>) -> Arc<Entry<Value>> {
    Arc::new(Entry::new(value, Version::NONE, Deadlines::forever(Timestamp::from_millis(0))))
}

fn tenant_key(key: impl Into<Key>) -> TenantKey<Key> {
    TenantKey { tenant: TenantId::NONE, key: key.into() }
}

/// Reads by a borrowed key.
fn get<N: Near<Key, Value>>(near: &N, key: &str) -> Option<Arc<Entry<Value>>> {
    near.get(&TenantKeyRef { tenant: TenantId::NONE, key })
}

fn fill<N: Near<Key, Value>>(near: &N, entries: usize, bytes: usize) {
    for at in 0..entries {
        near.insert(tenant_key(format!("key {at}")), entry(Some(vec![7; bytes])));
    }
}

fn a_borrowed_lookup_hits<N: Near<Key, Value>>(near: &N) {
    let inserted = entry(Some(vec![1]));
    near.insert(tenant_key("ada"), Arc::clone(&inserted));
    assert!(get(near, "ada").is_some_and(|hit| Arc::ptr_eq(&hit, &inserted)));
    assert!(get(near, "adam").is_none() && get(near, "").is_none());
}

fn a_newer_entry_takes_the_place_of_an_older_one<N: Near<Key, Value>>(near: &N) {
    near.insert(tenant_key("ada"), entry(Some(vec![1])));
    near.insert(tenant_key("ada"), entry(None));
    assert!(get(near, "ada").is_some_and(|hit| hit.value().is_none()));
    assert_eq!(near.size().entries, 1);
}

fn a_removed_entry_is_gone_and_no_other<N: Near<Key, Value>>(near: &N) {
    fill(near, 2, 1);
    near.remove(&TenantKeyRef { tenant: TenantId::NONE, key: "key 0" });
    assert!(get(near, "key 0").is_none());
    assert!(get(near, "key 1").is_some());
}

fn the_bound_holds<N: Near<Key, Value>>(near: &N, most: u64, entries: usize, bytes: usize) {
    fill(near, entries, bytes);
    let size = near.size();
    assert!(size.weight <= most && size.entries > 0, "{size:?}");
}

fn an_entry_heavier_than_the_bound_is_not_kept<N: Near<Key, Value>>(near: &N) {
    near.insert(tenant_key("huge"), entry(Some(vec![0; 20_000])));
    assert_eq!(near.size().entries, 0);
    assert!(get(near, "huge").is_none());
}

fn off_keeps_nothing<N: Near<Key, Value>>(near: &N) {
    assert!(!near.is_enabled());
    fill(near, 10, 1);
    assert!(get(near, "key 0").is_none());
    near.remove(&TenantKeyRef { tenant: TenantId::NONE, key: "key 0" });
    near.clear(None);
    assert_eq!((near.size().entries, near.size().weight), (0, 0));
}

fn a_clear_of_all_leaves_nothing<N: Near<Key, Value>>(near: &N) {
    fill(near, 10, 1);
    near.clear(None);
    assert!((0..10).all(|at| get(near, &format!("key {at}")).is_none()));
    near.insert(tenant_key("later"), entry(None));
    assert!(get(near, "later").is_some());
}

fn what_has_ended_is_dropped_and_the_next_end_returned<N: Near<Key, Value>>(near: &N) {
    let at = Timestamp::from_millis;
    for (key, end) in [("past", 10), ("now", 20), ("next", 30), ("later", 40)] {
        let deadlines = Deadlines { expires_at: at(end), ..Deadlines::forever(at(0)) };
        near.insert(tenant_key(key), Arc::new(Entry::new(Some(vec![1]), Version::NONE, deadlines)));
    }
    assert_eq!(near.drop_expired(at(20)), at(30));
    assert_eq!(near.size().entries, 2);
    assert!(get(near, "now").is_none() && get(near, "next").is_some());
    assert_eq!(near.drop_expired(at(40)), Timestamp::NEVER);
    near.insert(tenant_key("ada"), entry(None));
    assert_eq!((near.drop_expired(at(1 << 50)), near.size().entries), (Timestamp::NEVER, 1));
}

fn weigh(key: &Key, value: &Value) -> usize {
    key.len() + value.len()
}

/// Makes a test of each check for both engines.
macro_rules! on_both_engines {
    ($($check:ident($memory:expr, $quick:expr $(, $more:expr)*);)*) => {
        mod memory {
            use super::*;
            $(#[test] fn $check() { super::$check::<Memory<Key, Value>>(&$memory $(, $more)*) })*
        }
        mod quick {
            use super::*;
            $(#[test] fn $check() { super::$check::<Quick<Key, Value>>(&$quick $(, $more)*) })*
        }
    };
}

on_both_engines! {
    a_borrowed_lookup_hits(Memory::entries(10), Quick::entries(10));
    a_newer_entry_takes_the_place_of_an_older_one(Memory::entries(10), Quick::entries(10));
    a_removed_entry_is_gone_and_no_other(Memory::entries(10), Quick::entries(10));
    the_bound_holds(Memory::entries(100), Quick::entries(100), 100, 1_000, 1);
    an_entry_heavier_than_the_bound_is_not_kept(
        Memory::bytes(10_000, weigh), Quick::bytes(100, 10_000, weigh)
    );
    off_keeps_nothing(Memory::off(), Quick::off());
    a_clear_of_all_leaves_nothing(Memory::entries(100), Quick::entries(100));
    what_has_ended_is_dropped_and_the_next_end_returned(Memory::entries(100), Quick::entries(100));
}

#[test]
fn the_bound_in_bytes_holds_on_memory() {
    the_bound_holds(&Memory::bytes(10_000, weigh), 10_000, 1_000, 90);
}

#[test]
fn the_bound_in_bytes_holds_on_quick() {
    the_bound_holds(&Quick::bytes(100, 10_000, weigh), 10_000, 1_000, 90);
}

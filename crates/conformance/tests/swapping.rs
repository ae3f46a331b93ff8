//! A tier made by `Swapping` passes the suite.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use terrace_conformance::suite::Subject;
use terrace_core::{Backend, ErrorKind, Result, key::key_digest};
use terrace_tier::{
    Clock, Deadlines, Fence, Namespace, Op, Reply, Role, Swap, Swapping, TierKey, Timestamp, Token,
};

#[derive(Clone, Default)]
struct Table(Arc<Mutex<HashMap<String, Bytes>>>);

#[async_trait]
impl Swap for Table {
    fn name(&self) -> &str {
        "table"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        tokio::task::yield_now().await;
        Ok(self.0.lock().get(key).cloned())
    }

    async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, _: Timestamp) -> Result<bool> {
        tokio::task::yield_now().await;
        let mut rows = self.0.lock();
        let same = rows.get(key) == seen;
        if same {
            rows.insert(key.to_owned(), new);
        }
        Ok(same)
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.0.lock().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

async fn table() -> Subject {
    let table = Table::default();
    let rows = table.clone();
    Subject::new(Swapping::new(table.clone()).for_records()).second(Swapping::new(table).for_records()).evict(
        move |_, key| {
            let digest: String = key.digest.iter().map(|byte| format!("{byte:02x}")).collect();
            rows.0.lock().retain(|row, _| !row.ends_with(&digest));
            Box::pin(async {})
        },
    )
}

/// On a manual clock: no case waits in real time, and the random histories contain many expiries.
mod virtual_time {
    use super::*;

    async fn table() -> Subject {
        let (table, hand) = (Table::default(), Clock::manual());
        let handle = || Swapping::with_clock(table.clone(), hand.clock()).for_records();
        Subject::new(handle()).second(handle()).manual_clock(&hand)
    }

    terrace_conformance::tier_suite!(table);
    terrace_conformance::machine!(table, cases = 100);
}

terrace_conformance::tier_suite!(table);
terrace_conformance::tier_suite!(table, evict);

fn namespace(role: Role) -> Namespace {
    Namespace::new("users/a*", role)
        .with_tenant(Some("t".into()))
        .with_type(1, 1)
        .with_budget(Duration::from_secs(5))
}

fn key() -> TierKey {
    TierKey { bytes: Bytes::from_static(b"k"), digest: key_digest("users/a*", Some("t"), b"k") }
}

const LEASE: Op =
    Op::Lease { token: Token::from_u64(7), ttl: Duration::from_secs(60), over: None, replaces: Token::NONE };

#[tokio::test]
async fn bytes_that_are_no_cell_count_as_absent_and_are_overwritten() {
    let table = Table::default();
    let tier = Swapping::new(table.clone()).open(&namespace(Role::Cache)).unwrap();
    tier.apply(&key(), LEASE).await.unwrap();
    let address = table.0.lock().keys().next().cloned().unwrap();
    for foreign in [&b""[..], b"V", &[b'x'; 200]] {
        table.0.lock().insert(address.clone(), Bytes::copy_from_slice(foreign));
        assert_eq!(tier.apply(&key(), Op::Get).await.unwrap(), Reply::Miss(Fence::default()));
        let Reply::Miss(fence) = tier.apply(&key(), LEASE).await.unwrap() else { panic!("a lease") };
        let deadlines = Deadlines::forever(Timestamp::from_millis(1));
        let fill = Op::Fill { fence, version: fence.version, deadlines, body: None };
        assert!(matches!(tier.apply(&key(), fill).await.unwrap(), Reply::Kept(_)));
    }
}

#[tokio::test]
async fn a_key_names_namespace_and_tenant_in_harmless_letters() {
    let table = Table::default();
    let tier = Swapping::new(table.clone()).open(&namespace(Role::Cache)).unwrap();
    tier.apply(&key(), LEASE).await.unwrap();
    let address = table.0.lock().keys().next().cloned().unwrap();
    assert!(address.starts_with("users=2fa=2a/@t/"), "{address}");
    assert_eq!(address.len(), "users=2fa=2a/@t/".len() + 32);
}

#[tokio::test]
async fn a_cell_that_does_not_change_is_not_written_again() {
    let table = Table::default();
    let tier = Swapping::with_clock(table.clone(), Clock::manual().clock());
    let tier = tier.open(&namespace(Role::Cache)).unwrap();
    tier.apply(&key(), LEASE).await.unwrap();
    let before = table.0.lock().values().next().cloned().unwrap();
    tier.apply(&key(), LEASE).await.unwrap();
    let after = table.0.lock().values().next().cloned().unwrap();
    assert_eq!(
        before.as_ptr(),
        after.as_ptr(),
        "the table must still hold the same allocation, not equal bytes"
    );
}

#[tokio::test]
async fn a_tier_that_may_forget_is_no_store() {
    let error = Swapping::new(Table::default()).open(&namespace(Role::Store)).unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Config, Some("table")));
}

#[tokio::test]
async fn a_store_never_lets_a_cell_expire() {
    #[derive(Clone, Default)]
    struct Expiries(Arc<Mutex<Vec<Timestamp>>>);

    #[async_trait]
    impl Swap for Expiries {
        fn name(&self) -> &str {
            "expiries"
        }

        async fn get(&self, _: &str) -> Result<Option<Bytes>> {
            Ok(None)
        }

        async fn swap(&self, _: &str, _: Option<&Bytes>, _: Bytes, expires: Timestamp) -> Result<bool> {
            self.0.lock().push(expires);
            Ok(true)
        }

        async fn clear(&self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn ping(&self) -> Result<()> {
            Ok(())
        }
    }

    let expiries = Expiries::default();
    let hand = Clock::manual();
    let remove = || Op::Remove { tombstone_ttl: Duration::from_millis(9) };
    for role in [Role::Cache, Role::Store] {
        let backend = Swapping::with_clock(expiries.clone(), hand.clock()).for_records();
        backend.open(&namespace(role)).unwrap().apply(&key(), remove()).await.unwrap();
    }
    assert_eq!(*expiries.0.lock(), [hand.now().after(Duration::from_millis(9)), Timestamp::NEVER]);
}

#[tokio::test(start_paused = true)]
async fn a_swap_that_always_comes_too_late_ends_in_busy() {
    struct Contended;

    #[async_trait]
    impl Swap for Contended {
        fn name(&self) -> &str {
            "contended"
        }

        async fn get(&self, _: &str) -> Result<Option<Bytes>> {
            Ok(None)
        }

        async fn swap(&self, _: &str, _: Option<&Bytes>, _: Bytes, _: Timestamp) -> Result<bool> {
            Ok(false)
        }

        async fn clear(&self, _: &str) -> Result<()> {
            Ok(())
        }

        async fn ping(&self) -> Result<()> {
            Ok(())
        }
    }

    let tier = Swapping::new(Contended).open(&namespace(Role::Cache)).unwrap();
    let error = tier.apply(&key(), LEASE).await.unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Busy, Some("contended")));
    assert_eq!(tier.apply(&key(), Op::Get).await.unwrap(), Reply::Miss(Fence::default()));
}

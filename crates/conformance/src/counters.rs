//! What every group of counters passes.

use std::{collections::BTreeMap, sync::Arc};

use terrace_tier::{Backend, Counters, MAX_COUNTERS, OTHER_COUNTER};

/// Checks the counters of a backend: `first` and `second` are two handles of one server, or the same handle twice
/// where it serves one process. `group` is a name that no other test uses.
///
/// # Panics
/// Where they break the contract of [`Counters`]. The text says which part.
#[allow(clippy::expect_used, reason = "a failed case panics")]
pub async fn check_counters(first: &dyn Backend, second: &dyn Backend, group: &str) {
    let open = |backend: &dyn Backend| backend.counters(group).expect("the backend has counters");
    let (one, two) = (open(first), open(second));
    assert!(read(&one).await.is_empty(), "a new group has counters");
    one.add(&[]).await.expect("nothing is added");
    let pairs = |pairs: &[(&str, i64)]| {
        pairs.iter().map(|(name, sum)| ((*name).to_owned(), *sum)).collect::<Vec<_>>()
    };
    one.add(&pairs(&[("m:hits", 2), ("m:misses", 1)])).await.expect("added");
    two.add(&pairs(&[("m:hits", 40), ("n:hits", -3), ("\u{e9} \'\"", i64::from(u32::MAX))]))
        .await
        .expect("added");
    let expected =
        pairs(&[("m:hits", 42), ("m:misses", 1), ("n:hits", -3), ("\u{e9} \'\"", i64::from(u32::MAX))]);
    for counters in [&one, &two] {
        assert_eq!(read(counters).await, expected.iter().cloned().collect(), "the sums of both handles");
    }
    let other = first.counters(&format!("{group} other")).expect("a second group");
    assert!(read(&other).await.is_empty(), "groups share counters");
    concurrent_additions_are_all_there(&one, &two).await;
    names_have_a_bound(&other).await;
}

async fn concurrent_additions_are_all_there(one: &Arc<dyn Counters>, two: &Arc<dyn Counters>) {
    // In two orders, so that two statements that lock rows could deadlock.
    let names = ["a", "b", "c"];
    let additions = (0..40).map(|at| {
        let counters = Arc::clone(if at % 2 == 0 { one } else { two });
        let mut deltas: Vec<_> = names.iter().map(|name| ((*name).to_owned(), 1)).collect();
        if at % 4 < 2 {
            deltas.reverse();
        }
        async move { counters.add(&deltas).await }
    });
    for added in futures_util::future::join_all(additions).await {
        assert!(added.is_ok(), "a concurrent addition: {added:?}");
    }
    let sums = read(two).await;
    assert!(names.iter().all(|name| sums.get(*name) == Some(&40)), "of 40 concurrent additions: {sums:?}");
}

#[allow(clippy::expect_used, reason = "a failed case panics")]
async fn names_have_a_bound(counters: &Arc<dyn Counters>) {
    let all: Vec<_> = (0..MAX_COUNTERS + 10).map(|at| (format!("name {at}"), 1)).collect();
    for part in all.chunks(1000) {
        counters.add(part).await.expect("added");
    }
    counters.add(&[("name 0".to_owned(), 1)]).await.expect("added");
    let sums = read(counters).await;
    assert_eq!(sums.len(), MAX_COUNTERS + 1, "the bound of names");
    assert_eq!((sums.get("name 0"), sums.get(OTHER_COUNTER)), (Some(&2), Some(&10)), "known and other names");
}

#[allow(clippy::expect_used, reason = "a failed case panics")]
async fn read(counters: &Arc<dyn Counters>) -> BTreeMap<String, i64> {
    counters.read().await.expect("read").into_iter().collect()
}

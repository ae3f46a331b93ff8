//! Writes, which their callers poll until they leave or hold the call.

use std::{pin::pin, time::Duration};

use futures_util::{FutureExt, future::BoxFuture, poll};
use terrace_conformance::Fake;
use terrace_core::{ErrorKind, Source};
use terrace_tier::{Clock, ManualClock};

use crate::{
    left_after,
    support::{Stack, builder, fake, ms, without_near},
};

/// The tiers of a cache that has a near tier in front of them.
#[derive(Clone)]
struct Tiers {
    hand: ManualClock,
    redis: Fake,
    store: Option<Fake>,
}

impl Tiers {
    fn all() -> [Self; 2] {
        [false, true].map(|stored| {
            let hand = Clock::manual();
            let tier = |name| {
                let tier = fake(name, &hand);
                tier.set_latency(ms(5));
                tier
            };
            Self { redis: tier("redis"), store: stored.then(|| tier("db")), hand: hand.clone() }
        })
    }

    fn cache(&self) -> Stack {
        self.build(builder())
    }

    /// What another process reads, which has no near tier.
    async fn elsewhere(&self) -> Option<u64> {
        let cache = self.build(without_near());
        cache.get("k").await.unwrap().map(|value| *value)
    }

    fn build(&self, builder: terrace_core::Builder<String, u64, crate::support::Near>) -> Stack {
        let builder = builder.clock(&self.hand).tier(self.redis.another_handle());
        match &self.store {
            Some(store) => builder.store(store.another_handle()).build().unwrap(),
            None => builder.build().unwrap(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_put_that_is_left_at_any_await_ends_and_is_told_once() {
    for tiers in Tiers::all() {
        for polls in 1.. {
            let cache = tiers.cache();
            cache.put("k", 1).await.unwrap();
            let left = left_after(polls, cache.put("k", 2)).await;
            cache.settled().await;
            assert_eq!(cache.stats().puts, 2, "{polls} polls");
            let near = cache.get("k").await.unwrap().unwrap();
            assert_eq!((*near, near.served().from), (2, Source::Near), "{polls} polls");
            assert_eq!((tiers.elsewhere().await, cache.stats().flights), (Some(2), 0), "{polls} polls");
            if let Some(put) = left {
                put.unwrap();
                assert!(polls > 1, "the put was not ready at once");
                break;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_left_at_any_await_ends_and_is_told_once() {
    for tiers in Tiers::all() {
        for polls in 1.. {
            let cache = tiers.cache();
            cache.put("k", 1).await.unwrap();
            let left = left_after(polls, cache.remove("k")).await;
            cache.settled().await;
            assert_eq!((cache.stats().drops, cache.stats().flights), (1, 0), "{polls} polls");
            assert_eq!(
                (cache.get("k").await.unwrap(), tiers.elsewhere().await),
                (None, None),
                "{polls} polls"
            );
            if let Some(removed) = left {
                assert!(removed.unwrap());
                break;
            }
        }
    }
}

/// The calls of each write method, of `k` alone.
fn writes(cache: &Stack) -> Vec<BoxFuture<'_, bool>> {
    vec![
        async { cache.put("k", 2).await.is_ok() }.boxed(),
        async { cache.put_many([("k".to_owned(), 2)]).await.iter().all(Result::is_ok) }.boxed(),
        async { cache.remove("k").await.is_ok() }.boxed(),
        async { cache.invalidate("k").await.is_ok() }.boxed(),
        async { cache.expire("k", ms(60_000)).await.is_ok() }.boxed(),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_write_that_its_caller_holds_ends_without_it_and_gives_its_result_later() {
    for tiers in Tiers::all() {
        for method in 0..writes(&tiers.cache()).len() {
            let cache = tiers.cache();
            cache.put("k", 1).await.unwrap();
            let mut write = writes(&cache).remove(method);
            assert!(poll!(&mut write).is_pending());
            tokio::time::sleep(ms(100)).await;
            cache.settled().await;
            assert_eq!(cache.stats().flights, 0, "method {method}");
            let expected = if method < 2 { Some(2) } else { tiers.elsewhere().await };
            let read = cache.get("k").await.unwrap().map(|value| *value);
            assert_eq!((read, tiers.elsewhere().await), (expected, expected), "method {method}");
            assert!(write.await, "method {method}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_write_becomes_a_task_and_its_caller_gets_the_result() {
    for tiers in Tiers::all() {
        let cache = tiers.cache();
        tiers.redis.set_latency(ms(30));
        cache.put("k", 1).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn close_waits_for_a_write_whose_caller_has_gone_or_holds_it() {
    let both = Tiers::all().into_iter().flat_map(|tiers| [(tiers.clone(), true), (tiers, false)]);
    for (tiers, leaves) in both {
        let cache = tiers.cache();
        let mut put = Box::pin(cache.put("k", 2));
        assert!(poll!(&mut put).is_pending());
        let held = (!leaves).then_some(put);
        cache.close().await;
        assert_eq!(tiers.elsewhere().await, Some(2));
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_write_is_told_by_close_also_where_its_budget_is_spent() {
    let [tiers, _] = Tiers::all();
    let cache = tiers.cache();
    tiers.redis.set_latency(Duration::from_secs(3_600));
    let mut put = pin!(cache.put("k", 2));
    assert!(poll!(&mut put).is_pending());
    cache.close().await;
    assert_eq!(put.await.unwrap_err().kind(), ErrorKind::Unknown);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn a_put_that_is_dropped_outside_of_a_runtime_ends_in_that_of_its_call() {
    for tiers in Tiers::all() {
        let (owner, cache) = (runtime(), tiers.cache());
        let mut put = Box::pin(cache.put("k", 2));
        owner.block_on(async { assert!(poll!(&mut put).is_pending()) });
        drop(put);
        owner.block_on(cache.settled());
        assert_eq!(owner.block_on(tiers.elsewhere()), Some(2));
    }
}

#[test]
fn a_put_goes_on_in_the_runtime_of_its_call_wherever_it_is_polled() {
    for tiers in Tiers::all() {
        let (owner, other, cache) = (runtime(), runtime(), tiers.cache());
        let mut put = Box::pin(cache.put("k", 2));
        owner.block_on(async { assert!(poll!(&mut put).is_pending()) });
        other.block_on(&mut put).unwrap();
        assert_eq!(other.block_on(tiers.elsewhere()), Some(2));
    }
}

#[test]
fn a_put_whose_runtime_shuts_down_leaves_nothing_behind() {
    for tiers in Tiers::all() {
        let (owner, cache) = (runtime(), tiers.cache());
        owner.block_on(cache.put("k", 1)).unwrap();
        let (mut held, mut left) = (Box::pin(cache.put("k", 2)), Box::pin(cache.put("k", 3)));
        owner.block_on(async { assert!(poll!(&mut held).is_pending() && poll!(&mut left).is_pending()) });
        drop(owner);
        drop((held, left));
        assert_eq!(cache.stats().flights, 0);
        let other = runtime();
        other.block_on(async {
            cache.settled().await;
            cache.put("k", 4).await.unwrap();
            assert_eq!(cache.get("k").await.unwrap().unwrap(), 4);
        });
        assert_eq!(other.block_on(tiers.elsewhere()), Some(4));
    }
}

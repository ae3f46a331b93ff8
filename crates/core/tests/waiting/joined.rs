//! A call that joined a lookup of a weaker level, and then waits for another process.

use terrace_core::{Level, MissingKeys};
use terrace_tier::Clock;

use crate::{
    LEASE,
    support::{Loader, ReplayableStore, builder, fake, ms, without_near},
};

/// The value that a call of `level` gets. It joins a lookup of level `Fenced` and leads its load, while
/// another process holds the lease. The fill of that process reaches the shared tier after the call, but
/// with an older value: its record was removed before the call.
async fn joined(level: Level, many: bool) -> u64 {
    let hand = Clock::manual();
    let (redis, db) = (fake("redis", &hand).with_log(), fake("db", &hand));
    let stack = || {
        let stack = builder().clock(&hand).level(level).stampede(LEASE).tier(redis.another_handle());
        stack.store(ReplayableStore(db.another_handle())).build().unwrap()
    };
    let (here, there, loader) = (stack(), stack(), Loader::default());
    let first = {
        let (there, loader) = (there.clone(), loader.clone());
        tokio::spawn(async move { *there.get_or_load("k", || loader.give(1, ms(20))).await.unwrap() })
    };
    tokio::time::sleep(ms(10)).await;
    // From now on the fill of the other process is under way.
    redis.set_latency(ms(40));
    assert_eq!(first.await.unwrap(), 1);
    tokio::time::sleep(ms(1)).await;
    redis.set_latency(ms(10));
    let writer =
        without_near().clock(&hand).level(level).store(ReplayableStore(db.another_handle())).build().unwrap();
    writer.remove("k").await.unwrap();
    hand.advance(ms(600));
    let weaker = {
        let (fenced, loader) = (here.with(Level::Fenced), loader.clone());
        tokio::spawn(async move { *fenced.get_or_load("k", || loader.give(8, ms(0))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    let call = {
        let loader = loader.clone();
        tokio::spawn(async move {
            if !many {
                return *here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
            }
            let load = |missing: MissingKeys<String>| {
                let load = loader.give(9, ms(0));
                async move { load.await.map(|value| missing.zip(vec![value])) }
            };
            let values = here.get_or_load_many(&["k".to_owned()], load).await.into_values().unwrap();
            *values[0].clone().unwrap()
        })
    };
    tokio::time::sleep(ms(5)).await;
    weaker.abort();
    let value = call.await.unwrap();
    assert_eq!(there.stats().waits, 0);
    value
}

#[tokio::test(start_paused = true)]
async fn a_call_that_joined_a_weaker_lookup_and_waits_takes_no_older_copy() {
    for level in [Level::Strong, Level::Bounded(ms(500))] {
        for many in [false, true] {
            assert_eq!(joined(level, many).await, 9, "{level:?}, many: {many}");
        }
    }
    assert_eq!(joined(Level::Fenced, false).await, 1, "level `Fenced` may take the copy for which it waited");
}

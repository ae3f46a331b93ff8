//! Calls that join a lookup or load which began too long before them, or which needed less proof.

use terrace_core::{Level, MissingKeys};
use terrace_tier::{Clock, defence::Defence};

use crate::{
    is_missed,
    servers::{BOUND, LEVEL, STORE, TIER, read, with_an_old_copy},
    support::{Loader, ReplayableStore, builder, fake, ms, pass},
};

/// Anomaly 29: a loader that began long ago returns a value of that time.
#[tokio::test(start_paused = true)]
async fn a_load_that_began_too_long_before_the_call_is_no_answer() {
    let hand = Clock::manual();
    let origin = ReplayableStore(fake("origin", &hand));
    let cache = builder().clock(&hand).level(LEVEL).watch_origin(&origin).build().unwrap();
    let (slow, quick) = (Loader::default(), Loader::default());
    let first = {
        let (cache, slow) = (cache.clone(), slow.clone());
        tokio::spawn(async move { *cache.get_or_load("k", || slow.give(1, ms(2_000))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND / 2).await;
    let within = {
        let (cache, quick) = (cache.clone(), quick.clone());
        tokio::spawn(async move { *cache.get_or_load("k", || quick.give(2, ms(1))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND).await;
    let mut late = Vec::new();
    for _ in 0..20 {
        let (cache, quick) = (cache.clone(), quick.clone());
        late.push(tokio::spawn(
            async move { *cache.get_or_load("k", || quick.give(2, ms(1))).await.unwrap() },
        ));
    }
    let many = {
        let (cache, quick) = (cache.clone(), quick.clone());
        tokio::spawn(async move {
            let load = |missing: MissingKeys<String>| {
                let load = quick.give(2, ms(1));
                async move { load.await.map(|value| missing.zip(vec![value])) }
            };
            *cache.get_or_load_many(&["k".to_owned()], load).await.into_values().unwrap()[0].clone().unwrap()
        })
    };
    tokio::task::yield_now().await;
    pass(&hand, ms(2_000)).await;
    assert_eq!(first.await.unwrap(), 1);
    assert_eq!(
        within.await.unwrap(),
        1,
        "the load began within the bound before this call, so the call may join it"
    );
    for late in late {
        assert_eq!(late.await.unwrap(), 2);
    }
    assert_eq!(many.await.unwrap(), 2);
    assert_eq!(slow.runs(), 1);
    assert!(quick.runs() <= 2, "late callers must share a load: {}", quick.runs());
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_began_too_long_before_the_call_is_no_answer() {
    let hand = Clock::manual();
    let db = fake("db", &hand);
    let cache = builder().clock(&hand).level(LEVEL).store(db.clone()).build().unwrap();
    db.set_latency(ms(1_000));
    let first = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.unwrap().is_some() })
    };
    tokio::task::yield_now().await;
    pass(&hand, BOUND).await;
    let second = {
        let cache = cache.clone();
        tokio::spawn(async move { cache.get("k").await.unwrap().is_some() })
    };
    tokio::task::yield_now().await;
    assert!(!first.await.unwrap() && !second.await.unwrap());
    assert_eq!(db.calls().trips(), 2, "each call must look up, because an absence may be too old as well");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_joined_a_weaker_lookup_looks_again() {
    let (servers, here) = with_an_old_copy(builder()).await;
    servers.redis.set_latency(ms(10));
    let fenced = {
        let fenced = here.with(Level::Fenced);
        tokio::spawn(async move { read(&fenced, "k").await })
    };
    tokio::task::yield_now().await;
    let loader = Loader::default();
    let joined = [
        tokio::spawn({
            let here = here.clone();
            async move { read(&here, "k").await }
        }),
        tokio::spawn({
            let (here, loader) = (here.clone(), loader.clone());
            async move {
                let value = here.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
                Some((*value, value.served().from))
            }
        }),
    ];
    assert_eq!(fenced.await.unwrap(), Some((1, TIER)));
    for joined in joined {
        assert_eq!(joined.await.unwrap(), Some((2, STORE)));
    }
    assert_eq!(loader.runs(), 0);
}

#[test]
fn the_time_of_the_call_is_missed_where_joiners_do_not_look_at_it() {
    is_missed(Defence::InTime, || async {
        let (servers, here) = with_an_old_copy(builder()).await;
        servers.redis.set_latency(ms(10));
        let fenced = here.with(Level::Fenced);
        let first = tokio::spawn(async move { read(&fenced, "k").await });
        tokio::task::yield_now().await;
        let joined = read(&here, "k").await;
        first.await.unwrap();
        joined == Some((2, STORE))
    });
}

//! The proof of a copy without a relay: the store's own log, the time of the read, or the age of the copy.

use terrace_conformance::Fake;
use terrace_core::{ErrorKind, Source};
use terrace_tier::Clock;

use crate::{
    servers::{BOUND, LEVEL, STORE, TIER, read},
    support::{FixedExpiry, Loader, builder, fake, ms, pass},
};

#[tokio::test(start_paused = true)]
async fn a_store_with_its_own_log_needs_no_watermarks() {
    let hand = Clock::manual();
    let db = fake("db", &hand).with_log();
    let cache = |db: Fake| builder().clock(&hand).level(LEVEL).store(db).build().unwrap();
    let (here, there) = (cache(db.clone()), cache(db.another_handle()));
    pass(&hand, ms(1)).await;
    db.log().beat();
    there.put("k", 1).await.unwrap();
    read(&here, "k").await;
    for _ in 0..20 {
        pass(&hand, ms(100)).await;
        db.log().beat();
        assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    }
    db.log().hold(true);
    there.put("k", 2).await.unwrap();
    pass(&hand, BOUND).await;
    assert_eq!(read(&here, "k").await, Some((2, STORE)), "without heartbeats the log proves nothing");
}

#[tokio::test(start_paused = true)]
async fn without_a_log_near_believes_a_reading_for_the_bound() {
    let hand = Clock::manual();
    let db = fake("db", &hand);
    let cache = |db: Fake| builder().clock(&hand).level(LEVEL).store(db).build().unwrap();
    let (here, there) = (cache(db.clone()), cache(db.another_handle()));
    there.put("k", 1).await.unwrap();
    read(&here, "k").await;
    there.put("k", 2).await.unwrap();
    pass(&hand, BOUND - ms(1)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    pass(&hand, ms(1)).await;
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
}

#[tokio::test(start_paused = true)]
async fn without_a_truth_the_age_from_the_load_on_is_the_bound() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let cache = |redis: Fake| {
        let stack = builder().clock(&hand).level(LEVEL).tier(redis);
        stack.expire(FixedExpiry::fresh(BOUND)).build().unwrap()
    };
    let (here, there) = (cache(redis.clone()), cache(redis.another_handle()));
    let loader = Loader::default();
    let load = {
        let (here, loader) = (here.clone(), loader.clone());
        tokio::spawn(async move { *here.get_or_load("k", || loader.give(1, ms(200))).await.unwrap() })
    };
    tokio::task::yield_now().await;
    pass(&hand, ms(200)).await;
    assert_eq!(load.await.unwrap(), 1);
    here.settled().await;
    pass(&hand, BOUND - ms(201)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    assert_eq!(read(&there, "k").await, Some((1, TIER)));
    pass(&hand, ms(1)).await;
    assert_eq!(read(&here, "k").await, None, "the bound has passed since the loader was called");
    assert_eq!(read(&there, "k").await, None);
    let unsupported = there.expire("k", ms(10_000)).await.unwrap_err();
    assert_eq!(unsupported.kind(), ErrorKind::Unsupported);
}

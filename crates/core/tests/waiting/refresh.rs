//! A refresh while another process loads.

use std::pin::pin;

use futures_util::FutureExt;
use terrace_tier::Clock;

use crate::{
    processes,
    support::{Loader, ms},
};

#[tokio::test(start_paused = true)]
async fn a_refresh_is_not_answered_by_a_load_that_waited_for_another_process() {
    let hand = Clock::manual();
    let (group, old, new) = (processes(&hand, 2), Loader::default(), Loader::default());
    let [(there, redis), (here, _)] = &group[..] else { unreachable!() };
    let first = {
        let (there, old) = (there.clone(), old.clone());
        tokio::spawn(async move { *there.get_or_load("k", || old.give(1, ms(300))).await.unwrap() })
    };
    tokio::time::sleep(ms(10)).await;
    // The origin's value is 2 from now on, and the other process is still loading the value before.
    redis.set_latency(ms(10));
    let load = new.give(2, ms(0));
    let mut refresh = pin!(here.refresh("k", |_| async { load.await.map(Some) }));
    assert!(refresh.as_mut().now_or_never().is_none(), "its lookup is under way");
    let joined = {
        let (here, new) = (here.clone(), new.clone());
        tokio::spawn(async move { *here.get_or_load("k", || new.give(2, ms(0))).await.unwrap() })
    };
    // The lookup ends meanwhile, and the caller that joined the flight leads its load.
    tokio::time::sleep(ms(50)).await;
    assert_eq!(*refresh.await.unwrap().unwrap(), 2);
    assert_eq!((joined.await.unwrap(), here.stats().waits), (2, 0));
    assert_eq!((first.await.unwrap(), new.runs()), (1, 1));
}

//! What a process reads after the log has reported a change of another process.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use support::{builder, fake, ms};
use terrace_core::BoxError;
use terrace_tier::Clock;
use tokio::time::sleep;

/// The clock stands still, so the lease of the refresh and the write that comes after it have the same version.
#[tokio::test(start_paused = true)]
async fn a_read_joins_no_refresh_that_began_before_a_reported_change_of_the_same_version() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand).with_log();
    let process = |tier| builder().clock(&hand).tier(tier).build().unwrap();
    let (here, there) = (process(tier.clone()), process(tier.another_handle()));
    there.put("k", 1).await.unwrap();
    sleep(ms(200)).await;
    let refresh = here.refresh("k", |_| async {
        sleep(ms(1_000)).await;
        Ok::<_, BoxError>(2)
    });
    let changed = async {
        sleep(ms(200)).await;
        there.put("k", 2).await.unwrap();
        sleep(ms(200)).await;
        assert_eq!(*here.get("k").await.unwrap().unwrap(), 2, "the refresh read the old value");
    };
    let (refreshed, ()) = tokio::join!(refresh, changed);
    assert_eq!(*refreshed.unwrap().unwrap(), 2);
}

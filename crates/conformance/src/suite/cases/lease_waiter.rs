//! Waiting for another process's lease. Real time passes, because the tier times the keep-alives.

use std::time::Duration;

use futures_util::future::BoxFuture;
use terrace_tier::{
    Result, TierKey, Token,
    lease::{LeaseEnd, LeaseGuard},
};
use tokio::time::{Instant, sleep, timeout};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, kept},
    ensure, ensure_eq,
};

/// Within this time a waiter learns that a lease has ended, by a notification or by polling.
const SOON: Duration = Duration::from_secs(1);
/// Within this time no keep-alive is due.
const A_WHILE: Duration = Duration::from_millis(100);
/// Within this time a waiter notices that the holder of a lease is dead.
const DEATH: Duration = Duration::from_secs(2);

impl Bench {
    fn wait_for(
        &self,
        key: &TierKey,
        token: Token,
    ) -> std::result::Result<BoxFuture<'static, Result<LeaseEnd>>, Failure> {
        ensure!(self.tier.lease_waiter().is_some(), "the tier must have leases that can be waited for");
        let wait = self.tier.lease_waiter().map(|waiter| waiter.wait(key, token));
        let what = "`Tier::lease_waiter` first gave a waiter, then none";
        wait.ok_or_else(|| Failure::Broken { at: "lease_waiter".to_owned(), what: what.to_owned() })
    }

    fn hold(&self, key: &TierKey, token: Token) -> Option<LeaseGuard> {
        self.tier.lease_waiter().map(|waiter| waiter.hold(key, token))
    }
}

/// The end of a wait, which must come within `time`.
async fn ends_within(
    time: Duration,
    wait: BoxFuture<'static, Result<LeaseEnd>>,
) -> std::result::Result<LeaseEnd, Failure> {
    let ended = timeout(time, wait).await;
    ensure!(ended.is_ok(), "the wait must end within {time:?}");
    Ok(ended.unwrap_or(Ok(LeaseEnd::Changed))?)
}

pub(crate) async fn a_wait_ends_with_the_fill(bench: &Bench) -> Outcome {
    for over in [false, true] {
        let key = bench.key(if over { "over a value" } else { "k" });
        let over = if over { Some(bench.put(&key, "old").await?) } else { None };
        let fence = bench.lease_for(&key, LONG, over).await?;
        let other = bench.through_second_handle()?;
        let wait = tokio::spawn(other.wait_for(&key, fence.token)?);
        sleep(A_WHILE).await;
        ensure!(!wait.is_finished(), "the wait must not end before the fill");
        kept(&bench.fill(&key, fence, "new").await?)?;
        let joined = async { wait.await.unwrap_or(Ok(LeaseEnd::Free)) };
        ensure_eq!(ends_within(SOON, Box::pin(joined)).await?, LeaseEnd::Changed, "the lease was filled");
        other.reads(&key, "new").await?;
    }
    Ok(())
}

pub(crate) async fn a_wait_ends_with_a_change_that_kills_the_lease(bench: &Bench) -> Outcome {
    for change in ["put", "invalidate", "remove", "clear"] {
        let key = bench.key(change);
        let fence = bench.lease(&key).await?;
        let wait = tokio::spawn(bench.through_second_handle()?.wait_for(&key, fence.token)?);
        sleep(A_WHILE).await;
        match change {
            "put" => drop(bench.put(&key, "new").await?),
            "invalidate" => drop(bench.invalidate(&key, None).await?),
            "remove" => drop(bench.remove(&key).await?),
            _ => bench.tier.clear().await?,
        }
        let joined = async { wait.await.unwrap_or(Ok(LeaseEnd::Free)) };
        ensure_eq!(ends_within(SOON, Box::pin(joined)).await?, LeaseEnd::Changed, "after a {change}");
    }
    Ok(())
}

pub(crate) async fn a_lease_that_is_over_is_not_waited_for(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let never = bench.wait_for(&key, Token::random())?;
    ensure_eq!(ends_within(SOON, never).await?, LeaseEnd::Changed, "there is no lease");
    let fence = bench.lease(&key).await?;
    kept(&bench.fill(&key, fence, "value").await?)?;
    let filled = bench.wait_for(&key, fence.token)?;
    ensure_eq!(ends_within(SOON, filled).await?, LeaseEnd::Changed, "the lease was filled before");
    let old = bench.lease(&bench.key("other")).await?;
    bench.lease_replacing(&bench.key("other"), None, old.token).await?;
    let replaced = bench.wait_for(&bench.key("other"), old.token)?;
    ensure_eq!(ends_within(SOON, replaced).await?, LeaseEnd::Changed, "another lease replaced it");
    Ok(())
}

pub(crate) async fn a_released_lease_is_free(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let other = bench.through_second_handle()?;
    let guard = bench.hold(&key, fence.token);
    let waits = [
        tokio::spawn(other.wait_for(&key, fence.token)?),
        tokio::spawn(other.wait_for(&key, fence.token)?),
        tokio::spawn(bench.wait_for(&key, fence.token)?),
    ];
    sleep(A_WHILE).await;
    drop(guard);
    for wait in waits {
        let joined = async { wait.await.unwrap_or(Ok(LeaseEnd::Changed)) };
        ensure_eq!(ends_within(SOON, Box::pin(joined)).await?, LeaseEnd::Free, "every wait must end");
    }
    let late = other.wait_for(&key, fence.token)?;
    ensure_eq!(ends_within(SOON, late).await?, LeaseEnd::Free, "a later wait must end too");
    Ok(())
}

pub(crate) async fn a_settled_guard_releases_nothing(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    if let Some(guard) = bench.hold(&key, fence.token) {
        guard.settle();
    }
    let wait = tokio::spawn(bench.through_second_handle()?.wait_for(&key, fence.token)?);
    sleep(Duration::from_millis(500)).await;
    ensure!(!wait.is_finished(), "the lease was not released");
    wait.abort();
    Ok(())
}

pub(crate) async fn a_holder_at_work_is_waited_for(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let guard = bench.hold(&key, fence.token);
    let wait = tokio::spawn(bench.through_second_handle()?.wait_for(&key, fence.token)?);
    sleep(DEATH * 2).await;
    ensure!(!wait.is_finished(), "the holder sends keep-alives");
    kept(&bench.fill(&key, fence, "late").await?)?;
    if let Some(guard) = guard {
        guard.settle();
    }
    let joined = async { wait.await.unwrap_or(Ok(LeaseEnd::Free)) };
    ensure_eq!(ends_within(SOON, Box::pin(joined)).await?, LeaseEnd::Changed, "the lease was filled");
    Ok(())
}

pub(crate) async fn a_silent_holder_is_gone_within_two_seconds(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let began = Instant::now();
    let wait = bench.through_second_handle()?.wait_for(&key, fence.token)?;
    ensure_eq!(ends_within(DEATH, wait).await?, LeaseEnd::Free, "the holder sends no keep-alives");
    ensure!(
        began.elapsed() > SOON,
        "the wait must leave the holder time for a keep-alive\n  found    {:?}",
        began.elapsed()
    );
    let next = bench.lease_replacing(&key, None, fence.token).await?;
    bench.refuses(&key, fence).await?;
    kept(&bench.fill(&key, next, "new").await?)?;
    Ok(())
}

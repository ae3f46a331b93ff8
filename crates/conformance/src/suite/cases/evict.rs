//! A cache tier may evict any cell when memory is short; an eviction must do no harm.

use terrace_tier::{Fence, Reply, TierKey, Version};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, kept},
    ensure_eq,
};

impl Bench {
    async fn evict(&self, key: &TierKey) -> Outcome {
        let Some(evict) = &self.subject.evict else {
            let what = "this case needs `Subject::evict`".to_owned();
            return Err(Failure::Broken { at: "the subject".to_owned(), what });
        };
        evict(self.namespace.clone(), key.clone()).await;
        Ok(())
    }
}

pub(crate) async fn an_evicted_value_is_a_miss(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("other"));
    bench.put(&key, "value").await?;
    bench.put(&other, "other").await?;
    bench.evict(&key).await?;
    bench.misses(&key).await?;
    bench.reads(&other, "other").await
}

pub(crate) async fn an_evicted_lease_permits_no_fill(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.evict(&key).await?;
    bench.refuses(&key, fence).await?;
    let next = bench.lease(&key).await?;
    bench.refuses(&key, fence).await?;
    kept(&bench.fill(&key, next, "next").await?)?;
    Ok(())
}

pub(crate) async fn an_evicted_tombstone_permits_no_fill(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.invalidate(&key, None).await?;
    bench.evict(&key).await?;
    bench.refuses(&key, fence).await?;
    bench.refuses(&key, Fence { version: Version::MAX, ..fence }).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_late_put_after_an_eviction_is_not_kept(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let version = bench.put(&key, "value").await?;
    bench.evict(&key).await?;
    let newer = version.next(0);
    ensure_eq!(
        bench.follow(&key, newer, "late").await?,
        Reply::Refused(None),
        "there was nothing to replace"
    );
    bench.misses(&key).await
}

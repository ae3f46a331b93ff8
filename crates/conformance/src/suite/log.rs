//! What an invalidation log owes its followers.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{Condition, Deadlines, Follower, Notice, Op, Order, TierKey, Version};
use tokio::{sync::Notify, time::Instant};

use super::{
    Failure, Outcome,
    bench::{Bench, LONG, bytes, kept},
    ensure, ensure_eq,
};

/// How long a log may take to tell, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Writes down what it is told.
#[derive(Default)]
pub(crate) struct Ears {
    said: Mutex<Vec<Said>>,
    changed: Notify,
}

#[derive(Clone, Debug, PartialEq)]
enum Said {
    Notice(Notice),
    Heard { at: Instant, told_at: Instant },
}

impl Follower for Ears {
    fn notice(&self, notice: &Notice) {
        self.push(Said::Notice(notice.clone()));
    }

    fn heartbeat(&self, at: Instant) {
        self.push(Said::Heard { at, told_at: Instant::now() });
    }
}

impl Ears {
    /// Of heartbeats in a row, the first and the last are kept.
    fn push(&self, new: Said) {
        let mut said = self.said.lock();
        if let (Said::Heard { .. }, [.., Said::Heard { .. }, last @ Said::Heard { .. }]) =
            (&new, &mut said[..])
        {
            *last = new;
        } else {
            said.push(new);
        }
        drop(said);
        self.changed.notify_waiters();
    }

    fn said(&self) -> Vec<Said> {
        self.said.lock().clone()
    }

    /// What was told but for the first `Lost`, heartbeats left out.
    pub(crate) fn notices(&self) -> Vec<Notice> {
        let notices = self.said().into_iter().filter_map(|said| match said {
            Said::Notice(notice) => Some(notice),
            Said::Heard { .. } => None,
        });
        notices.skip(1).collect()
    }

    pub(crate) async fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Outcome {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let changed = self.changed.notified();
            if is_so(self) {
                return Ok(());
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), changed).await;
        }
        ensure!(is_so(self), "{what}\n  told     {:?}", self.said());
        Ok(())
    }

    async fn wait_for(&self, count: usize) -> Result<Vec<Notice>, Failure> {
        self.wait_until(&format!("{count} changes must be told"), |ears| ears.notices().len() >= count)
            .await?;
        Ok(self.notices())
    }

    /// Until all that happened before `since` was told.
    pub(crate) async fn wait_heard(&self, since: Instant) -> Outcome {
        let heard = |said: &Said| matches!(said, Said::Heard { at, .. } if *at >= since);
        self.wait_until("the log must be heard", |ears| ears.said().iter().any(heard)).await
    }
}

impl Bench {
    /// A follower that hears the log by now.
    async fn listen(&self) -> Result<Arc<Ears>, Failure> {
        let ears = Arc::new(Ears::default());
        self.followed_by(&ears)?;
        ears.wait_heard(Instant::now()).await?;
        Ok(ears)
    }

    pub(crate) fn followed_by(&self, ears: &Arc<Ears>) -> Outcome {
        let follower: Arc<dyn Follower> = Arc::clone(ears) as Arc<dyn Follower>;
        let follower: Weak<dyn Follower> = Arc::downgrade(&follower);
        match self.tier.log() {
            Some(log) => log.follow(&self.space.name, follower),
            None => ensure!(false, "the tier must have a log"),
        }
        Ok(())
    }

    pub(crate) fn told(&self, key: &TierKey, version: impl Into<Option<Version>>) -> Notice {
        let (tenant, key, version) = (self.space.tenant.clone(), key.bytes.clone(), version.into());
        Notice::Key { tenant, key, version }
    }
}

pub(crate) async fn nothing_is_proven_before_the_log_was_followed(bench: &Bench) -> Outcome {
    let ears = bench.listen().await?;
    let first = ears.said().into_iter().next();
    ensure_eq!(first, Some(Said::Notice(Notice::Lost)), "the first word must be `Lost`");
    Ok(())
}

pub(crate) async fn puts_and_removes_are_told_in_order_with_their_versions(bench: &Bench) -> Outcome {
    let (ears, other) = (bench.listen().await?, bench.through_second_handle()?);
    let (key, absent) = (bench.key("k"), bench.key("absent"));
    let first = other.put(&key, "first").await?;
    let second = other.put(&key, "second").await?;
    let (_, removed) = other.remove(&key).await?;
    let (_, never) = other.remove(&absent).await?;
    let third = kept(&other.put_if(&key, Condition::Absent, "third").await?)?;
    let expected = [
        bench.told(&key, first),
        bench.told(&key, second),
        bench.told(&key, removed),
        bench.told(&absent, never),
        bench.told(&key, third),
    ];
    ensure_eq!(ears.wait_for(5).await?, expected, "every write must be told");
    Ok(())
}

pub(crate) async fn another_life_is_told(bench: &Bench) -> Outcome {
    let (ears, other, key) = (bench.listen().await?, bench.through_second_handle()?, bench.key("k"));
    let version = other.put(&key, "value").await?;
    other.expire(&key, Deadlines::ttl(bench.now(), Duration::from_secs(60))).await?;
    let expected = [bench.told(&key, version), bench.told(&key, None)];
    ensure_eq!(ears.wait_for(2).await?, expected, "copies with the old life must go");
    Ok(())
}

pub(crate) async fn what_a_refused_put_asked_for_is_not_told(bench: &Bench) -> Outcome {
    let (ears, other, key) = (bench.listen().await?, bench.through_second_handle()?, bench.key("k"));
    let first = other.put(&key, "first").await?;
    other.put_if(&key, Condition::Absent, "refused").await?;
    let second = other.put(&key, "second").await?;
    let expected = [bench.told(&key, first), bench.told(&key, second)];
    ensure_eq!(ears.wait_for(2).await?, expected, "a refused put has changed nothing");
    Ok(())
}

pub(crate) async fn a_batch_of_puts_is_told_key_by_key(bench: &Bench) -> Outcome {
    let (ears, other) = (bench.listen().await?, bench.through_second_handle()?);
    let keys: Vec<TierKey> = (0..20u8).map(|number| bench.key([b'k', number])).collect();
    let put = |key: &TierKey| {
        let (order, deadlines) = (Order::Author(Condition::Always), bench.long());
        (key.clone(), Op::Put { order, deadlines, body: Some(bytes("value")), tombstone_ttl: LONG })
    };
    let mut expected = Vec::new();
    for (key, reply) in keys.iter().zip(other.tier.apply_many(keys.iter().map(put).collect()).await) {
        expected.push(bench.told(key, kept(&reply?)?));
    }
    let told = ears.wait_for(keys.len()).await?;
    ensure!(told.len() == expected.len(), "each key once: {told:?}");
    ensure!(expected.iter().all(|notice| told.contains(notice)), "every key of the batch: {told:?}");
    Ok(())
}

pub(crate) async fn tenants_are_named_and_namespaces_apart(bench: &Bench) -> Outcome {
    let ears = bench.listen().await?;
    let tenant = bench.through_second_handle()?.sibling_through_second(|space| {
        space.tenant = Some("acme".to_owned());
    })?;
    let elsewhere = bench.through_second_handle()?.sibling_through_second(|space| {
        space.name.push_str("-other");
    })?;
    let key = bench.key("k");
    elsewhere.put(&elsewhere.key("k"), "not ours").await?;
    let version = tenant.put(&tenant.key("k"), "theirs").await?;
    let own = bench.through_second_handle()?.put(&key, "ours").await?;
    let expected = [tenant.told(&key, version), bench.told(&key, own)];
    ensure_eq!(ears.wait_for(2).await?, expected, "all tenants of the namespace, and no other one");
    Ok(())
}

/// What was acknowledged before the time that is heard must have been told.
pub(crate) async fn it_is_never_heard_ahead_of_what_was_told(bench: &Bench) -> Outcome {
    let (ears, other) = (bench.listen().await?, bench.through_second_handle()?);
    for round in 0..20u8 {
        let key = bench.key([round]);
        let version = other.put(&key, "value").await?;
        let acknowledged = Instant::now();
        ears.wait_heard(acknowledged).await?;
        let mut told = false;
        for said in ears.said() {
            match said {
                Said::Notice(notice) => told |= notice == bench.told(&key, version),
                Said::Heard { at, told_at } => {
                    ensure!(at <= told_at, "nothing is heard from the future");
                    ensure!(told || at < acknowledged, "round {round}: heard before it was told");
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn it_is_heard_while_nothing_happens(bench: &Bench) -> Outcome {
    let ears = bench.listen().await?;
    for _ in 0..5 {
        ears.wait_heard(Instant::now()).await?;
    }
    ensure_eq!(ears.notices(), Vec::new(), "nothing happened");
    Ok(())
}

pub(crate) async fn a_log_that_was_lost_is_told_as_lost(bench: &Bench) -> Outcome {
    let Some(lose) = &bench.subject.lose_log else {
        let what = "this case needs `Subject::lose_log`".to_owned();
        return Err(Failure::Broken { at: "the subject".to_owned(), what });
    };
    let (ears, other, key) = (bench.listen().await?, bench.through_second_handle()?, bench.key("k"));
    other.put(&key, "before").await?;
    ears.wait_for(1).await?;
    lose(bench.space.clone()).await;
    let lost = |ears: &Ears| ears.notices().contains(&Notice::Lost);
    ears.wait_until("a log that was lost must be told as lost", lost).await?;
    ears.wait_heard(Instant::now()).await?;
    let version = other.put(&key, "after").await?;
    let told = |ears: &Ears| ears.notices().last() == Some(&bench.told(&key, version));
    ears.wait_until("then it must go on", told).await
}

pub(crate) async fn changes_of_copies_are_told_in_order(bench: &Bench) -> Outcome {
    let (ears, other, key) = (bench.listen().await?, bench.through_second_handle()?, bench.key("k"));
    let first = other.put(&key, "first").await?;
    let second = first.next(0);
    kept(&other.follow(&key, second, "second").await?)?;
    other.invalidate(&key, Some(second.next(0))).await?;
    other.invalidate(&key, None).await?;
    other.tier.clear().await?;
    let expected = [
        bench.told(&key, first),
        bench.told(&key, second),
        bench.told(&key, second.next(0)),
        bench.told(&key, None),
        Notice::Clear { tenant: None },
    ];
    ensure_eq!(ears.wait_for(5).await?, expected, "every change must be told");
    Ok(())
}

/// A reader may have brought the new value before: other near tiers keep the old one all the same.
pub(crate) async fn changes_that_change_no_cell_are_told(bench: &Bench) -> Outcome {
    let (ears, other) = (bench.listen().await?, bench.through_second_handle()?);
    let (key, absent) = (bench.key("k"), bench.key("absent"));
    let newest = other.put(&key, "newest").await?;
    let old = Version::from_u64(newest.as_u64() - 1);
    other.follow(&key, old, "late").await?;
    other.invalidate(&key, Some(old)).await?;
    other.follow(&absent, newest, "late").await?;
    other.invalidate(&absent, None).await?;
    let expected = [
        bench.told(&key, newest),
        bench.told(&key, old),
        bench.told(&key, old),
        bench.told(&absent, newest),
        bench.told(&absent, None),
    ];
    ensure_eq!(ears.wait_for(5).await?, expected, "told, whether or not it changed the cell");
    other.reads(&key, "newest").await
}

pub(crate) async fn fills_and_leases_are_not_told(bench: &Bench) -> Outcome {
    let (ears, other) = (bench.listen().await?, bench.through_second_handle()?);
    let (key, last) = (bench.key("k"), bench.key("last"));
    let fence = other.lease(&key).await?;
    let kept = other.fill(&key, fence, "filled").await?;
    ensure!(matches!(kept, terrace_tier::Reply::Kept(_)), "the fill must be kept: {kept:?}");
    let version = other.put(&last, "value").await?;
    ensure_eq!(ears.wait_for(1).await?, [bench.told(&last, version)], "fills change nothing for readers");
    Ok(())
}

pub(crate) async fn a_put_of_its_own_is_told_and_a_drop_need_not_be(bench: &Bench) -> Outcome {
    let (ears, key) = (bench.listen().await?, bench.key("k"));
    bench.invalidate(&key, None).await?;
    bench.tier.clear().await?;
    let version = bench.put(&key, "value").await?;
    let told = |ears: &Ears| ears.notices().contains(&bench.told(&key, version));
    ears.wait_until("a put may come late, after its writer gave it up", told).await
}

pub(crate) async fn a_clear_of_one_tenant_is_told_as_such(bench: &Bench) -> Outcome {
    let ears = bench.listen().await?;
    let tenant = bench.through_second_handle()?.sibling_through_second(|space| {
        space.tenant = Some("acme".to_owned());
    })?;
    tenant.tier.clear().await?;
    let expected = [Notice::Clear { tenant: Some("acme".to_owned()) }];
    ensure_eq!(ears.wait_for(1).await?, expected, "whose copies are dead must be told");
    Ok(())
}

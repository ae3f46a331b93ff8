//! Which tier is asked when: reads go near to far, fills and writes far to near.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use support::{Stack, fake, without_near};
use terrace_conformance::Fake;
use terrace_tier::{Backend, Clock, Namespace, Op, Reply, Result, Tier, TierKey};

/// What all tiers of a stack were asked, in the order in which they were.
type Diary = Arc<Mutex<Vec<String>>>;

/// A tier that writes its name and the operation into a diary before it does it.
#[derive(Debug)]
struct Noting<T> {
    name: String,
    inner: T,
    diary: Diary,
}

impl Backend for Noting<Fake> {
    fn name(&self) -> &str {
        &self.name
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        let (name, diary) = (self.name.clone(), Arc::clone(&self.diary));
        Ok(Arc::new(Noting { name, inner: self.inner.open(space)?, diary }))
    }
}

#[async_trait]
impl Tier for Noting<Arc<dyn Tier>> {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let word = op.name();
        self.diary.lock().unwrap().push(format!("{} {word}", self.name));
        self.inner.apply(key, op).await
    }

    async fn clear(&self) -> Result<()> {
        self.diary.lock().unwrap().push(format!("{} clear", self.name));
        self.inner.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

/// Two cache tiers and a store.
fn stack() -> (Stack, Diary) {
    let (hand, diary) = (Clock::manual(), Diary::default());
    let noting =
        |name: &str| Noting { name: name.to_owned(), inner: fake(name, &hand), diary: Arc::clone(&diary) };
    let cache = without_near()
        .tier(noting("nearer"))
        .tier(noting("farther"))
        .store(noting("store"))
        .clock(&hand)
        .build()
        .unwrap();
    (cache, diary)
}

async fn noted(cache: &Stack, diary: &Diary) -> Vec<String> {
    cache.settled().await;
    std::mem::take(&mut *diary.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn reads_go_near_to_far_and_writes_far_to_near() {
    let (cache, diary) = stack();
    cache.put("k", 1).await.unwrap();
    assert_eq!(noted(&cache, &diary).await, ["store put", "farther put", "nearer put"]);

    assert_eq!(*cache.get("k").await.unwrap().unwrap(), 1);
    let looked = ["nearer lease", "farther lease", "store lease", "farther fill", "nearer fill"];
    assert_eq!(noted(&cache, &diary).await, looked);

    cache.invalidate("k").await.unwrap();
    assert_eq!(noted(&cache, &diary).await, ["farther invalidate", "nearer invalidate"]);

    cache.clear().await.unwrap();
    assert_eq!(noted(&cache, &diary).await, ["farther clear", "nearer clear"]);

    cache.remove("k").await.unwrap();
    assert_eq!(noted(&cache, &diary).await, ["store remove", "farther invalidate", "nearer invalidate"]);
}

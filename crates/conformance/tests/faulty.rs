//! Faults on cue. Without armed faults, every case passes. With random faults, every case passes or
//! ends in a typed error, and no read returns a wrong value.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_conformance::{
    Answer, Call, Fake, Fault, Faulty, Recording, Request,
    suite::{self, CACHE, Failure, STORE, Subject},
};
use terrace_core::{Backend, ErrorKind, key::key_digest};
use terrace_tier::{Clock, Condition, Deadlines, Namespace, Op, Order, Reply, Role, Tier, TierKey};

async fn wrapped() -> Subject {
    let fake = Fake::new();
    let evict = fake.clone();
    let wrap = |fake: Fake| Recording::new(Faulty::new(fake));
    Subject::new(wrap(fake.clone()))
        .second(wrap(fake.another_handle()))
        .notified_within(Fake::CLEAR_LAG)
        .evict(move |namespace, key| {
            evict.evict(&namespace.name, &key.bytes);
            Box::pin(async {})
        })
}

terrace_conformance::tier_suite!(wrapped);
terrace_conformance::tier_suite!(wrapped, evict);

fn namespace(role: Role) -> Namespace {
    Namespace::new("users", role).with_type(1, 1).with_budget(Duration::from_secs(5))
}

fn key() -> TierKey {
    TierKey { bytes: Bytes::from_static(b"k"), digest: key_digest("users", None, b"k") }
}

fn put(body: &'static str) -> Op {
    let deadlines = Deadlines::ttl(Fake::new().now(), Duration::from_secs(60));
    let order = Order::Author(Condition::Always);
    Op::Put {
        order,
        deadlines,
        body: Some(Bytes::from_static(body.as_bytes())),
        tombstone_ttl: Duration::ZERO,
    }
}

async fn body(tier: &dyn Tier) -> Option<Bytes> {
    match tier.apply(&key(), Op::Get).await.unwrap() {
        Reply::Hit(stored) => stored.body,
        _ => None,
    }
}

fn faulty() -> (Faulty<Fake>, Arc<dyn Tier>) {
    let faulty = Faulty::new(Fake::new());
    let tier = faulty.open(&namespace(Role::Cache)).unwrap();
    (faulty, tier)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_random_faults_every_case_ends_in_a_typed_error_or_well() {
    let runs = CACHE.iter().chain(STORE).flat_map(|case| [0, 1].map(|seed| (*case, seed)));
    let run = |(case, seed): (suite::Case, u64)| {
        tokio::spawn(async move {
            let fake = Fake::new();
            let (one, two) = (Faulty::new(fake.clone()), Faulty::new(fake.another_handle()));
            one.arm_random(seed, 20);
            two.arm_random(seed + 100, 20);
            match case.run(Subject::new(one).second(two).notified_within(Fake::CLEAR_LAG)).await {
                Ok(()) => 0,
                Err(broken) => {
                    let typed = matches!(broken.cases[..], [(_, Failure::Tier(_))]);
                    assert!(typed, "{broken}");
                    1
                }
            }
        })
    };
    let mut met = 0;
    for ended in runs.map(run).collect::<Vec<_>>() {
        met += ended.await.unwrap();
    }
    assert!(met > 50, "more than 50 cases must meet a fault: {met}");
}

#[tokio::test]
async fn under_random_faults_histories_show_the_old_or_the_new_value_and_no_other() {
    for role in [Role::Cache, Role::Store] {
        for seed in 0..40 {
            let hand = Clock::manual();
            let fake = Fake::with_clock("fake", hand.clock());
            let (one, two) = (Faulty::new(fake.clone()), Faulty::new(fake.another_handle()));
            one.arm_random(seed, 15);
            two.arm_random(seed + 1000, 15);
            let subject = Subject::new(one).second(two).manual_clock(&hand).notified_within(Fake::CLEAR_LAG);
            suite::oracle_under_faults(subject, role, seed, 300).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_tier_that_lies_about_a_failure_is_found() {
    /// Reports `Unavailable`, which means that nothing was done, for puts that were done.
    #[derive(Debug)]
    struct Liar(Arc<dyn Tier>);

    #[async_trait::async_trait]
    impl Tier for Liar {
        async fn apply(&self, key: &TierKey, op: Op) -> terrace_core::Result<Reply> {
            let lie = matches!(op, Op::Put { .. });
            let reply = self.0.apply(key, op).await?;
            let unavailable = terrace_core::Error::new(ErrorKind::Unavailable, "a lie");
            if lie { Err(unavailable) } else { Ok(reply) }
        }

        async fn clear(&self) -> terrace_core::Result<()> {
            self.0.clear().await
        }

        async fn ping(&self) -> terrace_core::Result<()> {
            self.0.ping().await
        }
    }

    struct Lying(Fake);

    impl Backend for Lying {
        fn name(&self) -> &str {
            "liar"
        }

        fn open(&self, namespace: &Namespace) -> terrace_core::Result<Arc<dyn Tier>> {
            Ok(Arc::new(Liar(self.0.open(namespace)?)))
        }
    }

    let subject = Subject::new(Lying(Fake::new()));
    let found = suite::oracle_under_faults(subject, Role::Cache, 1, 300).await.unwrap_err();
    assert!(found.to_string().contains("replay with oracle_under_faults"), "{found}");
}

#[tokio::test]
async fn a_fault_meets_the_next_calls_of_its_kind_alone() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::fail(ErrorKind::ReadOnly).on(Call::Put).times(2));
    assert_eq!(body(&*tier).await, None);
    for _ in 0..2 {
        let error = tier.apply(&key(), put("refused")).await.unwrap_err();
        assert_eq!((error.kind(), error.tier()), (ErrorKind::ReadOnly, Some("fake")));
    }
    assert_eq!(body(&*tier).await, None);
    tier.apply(&key(), put("kept")).await.unwrap();
    assert_eq!(body(&*tier).await.unwrap(), "kept");
    assert_eq!(faulty.armed(), 0);
}

#[tokio::test]
async fn a_lost_answer_leaves_the_write_done() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::lose_answer());
    assert_eq!(tier.apply(&key(), put("done")).await.unwrap_err().kind(), ErrorKind::Unknown);
    assert_eq!(body(&*tier).await.unwrap(), "done");
}

#[tokio::test]
async fn a_fault_meets_a_batch_as_a_whole() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::fail(ErrorKind::Unavailable).on(Call::Get));
    let replies = tier.apply_many(vec![(key(), Op::Get), (key(), Op::Get)]).await;
    assert!(replies.iter().all(|reply| reply.is_err()) && replies.len() == 2);
    assert_eq!(body(&*tier).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_call_is_carried_out_late() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::delay(Duration::from_secs(3)));
    let start = tokio::time::Instant::now();
    tier.apply(&key(), put("late")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_call_whose_caller_goes_away_is_never_carried_out() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::hang());
    let waited = tokio::time::timeout(Duration::from_secs(60), tier.apply(&key(), put("never"))).await;
    assert!(waited.is_err());
    faulty.disarm();
    assert_eq!(body(&*tier).await, None);
}

#[tokio::test(start_paused = true)]
async fn disarming_lets_go_of_calls_that_hang() {
    let (faulty, tier) = faulty();
    faulty.arm(Fault::hang_answer());
    let other = tier.clone();
    let waiting = tokio::spawn(async move { other.apply(&key(), put("done")).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!waiting.is_finished());
    assert_eq!(body(&*tier).await.unwrap(), "done");
    faulty.disarm();
    assert!(matches!(waiting.await.unwrap(), Ok(Reply::Kept(_))));
}

#[tokio::test]
async fn a_recording_tells_trips_requests_and_answers() {
    let recording = Recording::new(Fake::new());
    let tier = recording.open(&namespace(Role::Store)).unwrap();
    let kept = tier.apply(&key(), put("value")).await.unwrap();
    tier.apply_many(vec![(key(), Op::Get), (key(), Op::Get)]).await;
    tier.clear().await.unwrap();
    recording.get_ref().set_down(true);
    tier.ping().await.unwrap_err();
    let records = recording.records();
    assert_eq!(records.iter().map(|record| record.trip).collect::<Vec<_>>(), [0, 1, 1, 2, 3]);
    assert!(matches!(&records[0].answer, Some(Ok(Answer::Reply(reply))) if *reply == kept));
    assert_eq!(records[2].request, Request::Apply(key(), Op::Get));
    assert!(matches!((&records[3].request, &records[3].answer), (Request::Clear, Some(Ok(Answer::Done)))));
    assert!(matches!(&records[4].answer, Some(Err(error)) if error.kind() == ErrorKind::Unavailable));
    assert_eq!(recording.ops().len(), 3);
}

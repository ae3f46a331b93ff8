//! Several caches over the same tiers against one plain map: what one has written, all read.
//!
//! Two or three processes, with and without near tiers, over one or two shared tiers, with and without
//! a store. The log of the nearest tier is delivered within each write, so near owes the same as the
//! rest. Operations come one after the other; fills and repayments are under way between them.
#![allow(clippy::unwrap_used, reason = "a test; the lint looks for the attribute on each function")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use support::{fake, ms};
use terrace_conformance::Fake;
use terrace_core::{BoxError, Builder, Cache, Clock, ManualClock, Version};
use terrace_tier_memory::Memory;
use tokio::runtime::Runtime;

const LIFE: Duration = Duration::from_secs(300);
const KEYS: u8 = 4;

#[derive(Clone, Debug)]
struct Shape {
    processes: usize,
    near: bool,
    tiers: usize,
    store: bool,
}

/// What must be true: the values of the keys, and when copies without a store end.
#[derive(Clone, Debug)]
struct Truth {
    shape: Shape,
    now: Duration,
    values: BTreeMap<u8, (u64, Duration)>,
}

/// What the process of this number, modulo those there are, does with a key.
#[derive(Clone, Debug)]
enum Step {
    Get(usize, u8),
    GetOrLoad(usize, u8, u64),
    Refresh(usize, u8, u64),
    Put(usize, u8, u64),
    PutIfAbsent(usize, u8, u64),
    Replace(usize, u8, u64),
    ReplaceUnseen(usize, u8, u64),
    Invalidate(usize, u8),
    Remove(usize, u8),
    Clear(usize),
    /// A process ends and another begins in its place.
    Restart(usize),
    /// The log is heard.
    Beat,
    /// Nobody has heard it.
    Lose,
    Evict(usize, u8),
    Advance(u32),
}

impl Truth {
    fn value(&self, key: u8) -> Option<u64> {
        self.values.get(&key).filter(|(_, end)| self.now < *end).map(|(value, _)| *value)
    }

    fn set(&mut self, key: u8, value: u64) {
        let life = if self.shape.store { Duration::MAX } else { LIFE };
        self.values.insert(key, (value, self.now.saturating_add(life)));
    }
}

impl ReferenceStateMachine for Truth {
    type State = Truth;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Truth> {
        let shape = (2usize..=3, any::<bool>(), 1usize..=2, any::<bool>());
        let shape = shape.prop_map(|(processes, near, tiers, store)| Shape { processes, near, tiers, store });
        shape.prop_map(|shape| Truth { shape, now: Duration::ZERO, values: BTreeMap::new() }).boxed()
    }

    fn transitions(_: &Truth) -> BoxedStrategy<Step> {
        let of = (0usize..3, 0u8..KEYS);
        let with = (0usize..3, 0u8..KEYS, any::<u64>());
        prop_oneof![
            8 => of.clone().prop_map(|(at, key)| Step::Get(at, key)),
            4 => with.clone().prop_map(|(at, key, value)| Step::GetOrLoad(at, key, value)),
            1 => with.clone().prop_map(|(at, key, value)| Step::Refresh(at, key, value)),
            4 => with.clone().prop_map(|(at, key, value)| Step::Put(at, key, value)),
            2 => with.clone().prop_map(|(at, key, value)| Step::PutIfAbsent(at, key, value)),
            2 => with.clone().prop_map(|(at, key, value)| Step::Replace(at, key, value)),
            1 => with.prop_map(|(at, key, value)| Step::ReplaceUnseen(at, key, value)),
            2 => of.clone().prop_map(|(at, key)| Step::Invalidate(at, key)),
            2 => of.clone().prop_map(|(at, key)| Step::Remove(at, key)),
            1 => (0usize..3).prop_map(Step::Clear),
            1 => (0usize..3).prop_map(Step::Restart),
            3 => Just(Step::Beat),
            1 => Just(Step::Lose),
            1 => of.prop_map(|(at, key)| Step::Evict(at, key)),
            2 => (1u32..400_000).prop_map(Step::Advance),
        ]
        .boxed()
    }

    fn apply(mut truth: Truth, step: &Step) -> Truth {
        let store = truth.shape.store;
        match step {
            Step::GetOrLoad(_, key, value) | Step::PutIfAbsent(_, key, value)
                if truth.value(*key).is_none() =>
            {
                truth.set(*key, *value);
            }
            Step::Refresh(_, key, value) if store && truth.value(*key).is_none() => truth.set(*key, *value),
            Step::Put(_, key, value) => truth.set(*key, *value),
            Step::Replace(_, key, value) if truth.value(*key).is_some() => truth.set(*key, *value),
            Step::Remove(_, key) => _ = truth.values.remove(key),
            Step::Invalidate(_, key) if !store => _ = truth.values.remove(key),
            Step::Clear(_) if !store => truth.values.clear(),
            Step::Advance(millis) => truth.now += Duration::from_millis((*millis).into()),
            _ => {}
        }
        truth
    }
}

type Stack = Cache<String, u64, Memory<String, u64>>;

struct Real {
    runtime: Runtime,
    shape: Shape,
    caches: Vec<Stack>,
    tiers: Vec<Fake>,
    store: Fake,
    hand: ManualClock,
}

impl Real {
    fn new(shape: &Shape) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let hand = Clock::manual();
        let mut tiers: Vec<Fake> = (0..shape.tiers).map(|at| fake(&format!("tier{at}"), &hand)).collect();
        tiers[0] = tiers[0].clone().with_log();
        let (runtime, store) = (runtime.unwrap(), fake("store", &hand));
        let mut real = Self { runtime, shape: shape.clone(), caches: Vec::new(), tiers, store, hand };
        real.caches = (0..shape.processes).map(|_| real.start()).collect();
        real
    }

    fn start(&self) -> Stack {
        let near = if self.shape.near { Memory::entries(1_000) } else { Memory::off() };
        let mut builder = Builder::new("together".to_owned(), near).clock(&self.hand);
        for tier in &self.tiers {
            builder = builder.tier(tier.another_handle());
        }
        if self.shape.store {
            builder = builder.store(self.store.another_handle());
        }
        self.runtime.block_on(async { builder.build().unwrap() })
    }

    fn cache(&self, at: usize) -> &Stack {
        &self.caches[at % self.caches.len()]
    }

    async fn carry_out(&self, truth: &Truth, step: &Step) {
        let load = |value: u64| async move {
            tokio::time::sleep(ms(1)).await;
            Ok::<_, BoxError>(value)
        };
        match step {
            Step::Get(at, key) => assert_eq!(self.read(*at, *key).await, truth.value(*key)),
            Step::GetOrLoad(at, key, value) => {
                let got = self.cache(*at).get_or_load(&name(*key), || load(*value)).await.unwrap();
                assert_eq!(Some(*got), truth.value(*key));
            }
            // Without a store it is no change that others are told of.
            Step::Refresh(at, key, value) if self.shape.store => {
                let got = self.cache(*at).refresh(&name(*key), |_| load(*value)).await.unwrap();
                assert_eq!(got.map(|value| *value), truth.value(*key));
                // The copies that others read are filled off the caller's path.
                self.cache(*at).settled().await;
            }
            Step::Put(at, key, value) => _ = self.cache(*at).put(&name(*key), *value).await.unwrap(),
            Step::PutIfAbsent(at, key, value) => {
                let put = self.cache(*at).put_if_absent(&name(*key), *value).await.unwrap();
                assert!(!put || truth.value(*key) == Some(*value));
            }
            Step::Replace(at, key, value) => {
                let cache = self.cache(*at);
                if let Some(seen) = cache.get(&name(*key)).await.unwrap() {
                    assert!(cache.replace(&name(*key), seen.served().version, *value).await.unwrap());
                }
            }
            Step::ReplaceUnseen(at, key, value) => {
                let never = Version::from_u64(1);
                assert!(!self.cache(*at).replace(&name(*key), never, *value).await.unwrap());
            }
            Step::Invalidate(at, key) => _ = self.cache(*at).invalidate(&name(*key)).await.unwrap(),
            Step::Remove(at, key) => _ = self.cache(*at).remove(&name(*key)).await.unwrap(),
            Step::Clear(at) => self.cache(*at).clear().await.unwrap(),
            Step::Beat => self.tiers[0].log().beat(),
            Step::Lose => self.tiers[0].log().lose(),
            // Without a store nobody else has what the farthest tier forgets.
            Step::Evict(at, key) if self.shape.store || at % self.tiers.len() + 1 < self.tiers.len() => {
                _ = self.tiers[at % self.tiers.len()].evict("together", name(*key).as_bytes());
            }
            Step::Refresh(..) | Step::Evict(..) | Step::Restart(_) => {}
            Step::Advance(millis) => self.hand.advance(Duration::from_millis((*millis).into())),
        }
    }

    async fn read(&self, at: usize, key: u8) -> Option<u64> {
        self.cache(at).get(&name(key)).await.unwrap().map(|value| *value)
    }
}

fn name(key: u8) -> String {
    format!("key {key}")
}

impl StateMachineTest for Real {
    type SystemUnderTest = Real;
    type Reference = Truth;

    fn init_test(truth: &Truth) -> Real {
        Real::new(&truth.shape)
    }

    /// `truth` is the state after the step.
    fn apply(mut real: Real, truth: &Truth, step: Step) -> Real {
        real.runtime.block_on(real.carry_out(truth, &step));
        if let Step::Restart(at) = step {
            let at = at % real.caches.len();
            real.caches[at] = real.start();
        }
        real
    }

    fn teardown(real: Real, truth: Truth) {
        real.runtime.block_on(async {
            for at in 0..real.caches.len() {
                for key in 0..KEYS {
                    assert_eq!(real.read(at, key).await, truth.value(key), "key {key} in process {at}");
                }
            }
        });
    }
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn caches_that_share_tiers_read_as_one_map(sequential 1..60 => Real);
}

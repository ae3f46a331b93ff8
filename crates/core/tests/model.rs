//! The whole cache against a plain map: random operations on random stacks, on virtual time.
//!
//! Stacks have zero to three cache tiers, with and without a near tier, with and without a store.
//! With a store, cache tiers also fail, hang and forget at random: reads must not show it.
#![allow(clippy::unwrap_used, reason = "a test; the lint looks for the attribute on each function")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use support::fake;
use terrace_conformance::Fake;
use terrace_core::{BoxError, Builder, Cache, Clock, Error, ErrorKind, Item, ManualClock, Result};
use terrace_tier_memory::Memory;
use tokio::runtime::Runtime;

const LIFE: Duration = Duration::from_secs(300);

#[derive(Clone, Debug)]
struct Shape {
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

#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    GetMany(Vec<u8>),
    GetOrLoad(u8, u64),
    LoadMany(Vec<u8>, u64),
    Refresh(u8, u64),
    Put(u8, u64, Option<u16>),
    PutMany(Vec<u8>, u64),
    PutIfAbsent(u8, u64),
    Replace(u8, u64, bool),
    Invalidate(u8),
    Remove(u8),
    RemoveMany(Vec<u8>),
    Expire(u8, u16),
    Clear,
    Advance(u32),
    Down(usize),
    Hang(usize),
    Up(usize),
    Forget(usize, u8),
}

impl Truth {
    fn value(&self, key: u8) -> Option<u64> {
        self.values.get(&key).filter(|(_, end)| self.now < *end).map(|(value, _)| *value)
    }

    fn set(&mut self, key: u8, value: u64, life: Option<Duration>) {
        let default = if self.shape.store { Duration::MAX } else { LIFE };
        self.values.insert(key, (value, self.now.saturating_add(life.unwrap_or(default))));
    }
}

impl ReferenceStateMachine for Truth {
    type State = Truth;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Truth> {
        let shape = (any::<bool>(), 0usize..=3, any::<bool>());
        let shape = shape.prop_map(|(near, tiers, store)| Shape {
            near: near || (tiers == 0 && !store),
            tiers,
            store,
        });
        shape.prop_map(|shape| Truth { shape, now: Duration::ZERO, values: BTreeMap::new() }).boxed()
    }

    fn transitions(_: &Truth) -> BoxedStrategy<Step> {
        let (key, value, millis) = (0u8..6, any::<u64>(), 1u16..2_000);
        let keys = || prop::collection::vec(0u8..6, 0..5);
        let tier = 0..3usize;
        prop_oneof![
            6 => key.clone().prop_map(Step::Get),
            2 => keys().prop_map(Step::GetMany),
            4 => (key.clone(), value).prop_map(|(key, value)| Step::GetOrLoad(key, value)),
            2 => (keys(), value).prop_map(|(keys, value)| Step::LoadMany(keys, value)),
            1 => (key.clone(), value).prop_map(|(key, value)| Step::Refresh(key, value)),
            4 => (key.clone(), value, prop::option::of(millis.clone()))
                .prop_map(|(key, value, life)| Step::Put(key, value, life)),
            2 => (keys(), value).prop_map(|(keys, value)| Step::PutMany(keys, value)),
            2 => (key.clone(), value).prop_map(|(key, value)| Step::PutIfAbsent(key, value)),
            2 => (key.clone(), value, any::<bool>()).prop_map(|(key, value, seen)| Step::Replace(key, value, seen)),
            2 => key.clone().prop_map(Step::Invalidate),
            2 => key.clone().prop_map(Step::Remove),
            1 => keys().prop_map(Step::RemoveMany),
            1 => (key.clone(), millis).prop_map(|(key, millis)| Step::Expire(key, millis)),
            1 => Just(Step::Clear),
            2 => (1u32..400_000).prop_map(Step::Advance),
            2 => tier.clone().prop_map(Step::Down),
            1 => tier.clone().prop_map(Step::Hang),
            3 => tier.clone().prop_map(Step::Up),
            1 => (tier, key).prop_map(|(tier, key)| Step::Forget(tier, key)),
        ]
        .boxed()
    }

    fn apply(mut truth: Truth, step: &Step) -> Truth {
        let store = truth.shape.store;
        match step {
            Step::GetOrLoad(key, value) if truth.value(*key).is_none() => truth.set(*key, *value, None),
            Step::LoadMany(keys, value) => {
                for key in keys {
                    if truth.value(*key).is_none() {
                        truth.set(*key, *value, None);
                    }
                }
            }
            Step::Refresh(key, value) if !store || truth.value(*key).is_none() => {
                truth.set(*key, *value, None)
            }
            Step::Put(key, value, life) => {
                truth.set(*key, *value, life.map(|millis| Duration::from_millis(millis.into())));
            }
            Step::PutMany(keys, value) => keys.iter().for_each(|key| truth.set(*key, *value, None)),
            Step::PutIfAbsent(key, value) if truth.value(*key).is_none() => truth.set(*key, *value, None),
            Step::Replace(key, value, true) if truth.value(*key).is_some() => truth.set(*key, *value, None),
            Step::Remove(key) => _ = truth.values.remove(key),
            Step::RemoveMany(keys) => keys.iter().for_each(|key| _ = truth.values.remove(key)),
            Step::Invalidate(key) if !store => _ = truth.values.remove(key),
            Step::Clear if !store => truth.values.clear(),
            Step::Expire(key, millis) => {
                if let Some(value) = truth.value(*key) {
                    truth.set(*key, value, Some(Duration::from_millis((*millis).into())));
                }
            }
            Step::Advance(millis) => truth.now += Duration::from_millis((*millis).into()),
            _ => {}
        }
        truth
    }
}

struct Real {
    runtime: Runtime,
    cache: Cache<String, u64, Memory<String, u64>>,
    tiers: Vec<Fake>,
    hand: ManualClock,
}

fn name(key: u8) -> String {
    format!("key {key}")
}

fn names(keys: &[u8]) -> Vec<String> {
    keys.iter().copied().map(name).collect()
}

async fn load(value: u64) -> Result<u64, BoxError> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(value)
}

/// A removal that a lost tier did not confirm is reported, and has happened all the same.
fn may_be_partial<T>(result: Result<T, Error>) {
    if let Err(error) = result {
        assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
    }
}

impl StateMachineTest for Real {
    type SystemUnderTest = Real;
    type Reference = Truth;

    fn init_test(truth: &Truth) -> Real {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let hand = Clock::manual();
        let tiers: Vec<Fake> = (0..truth.shape.tiers).map(|at| fake(&format!("tier{at}"), &hand)).collect();
        let near = if truth.shape.near { Memory::entries(1_000) } else { Memory::off() };
        let mut builder = Builder::new("model".to_owned(), near).clock(&hand);
        for tier in &tiers {
            builder = builder.tier(tier.clone());
        }
        if truth.shape.store {
            builder = builder.store(fake("store", &hand));
        }
        let cache = runtime.block_on(async { builder.build().unwrap() });
        Real { runtime, cache, tiers, hand }
    }

    /// `truth` is the state after the step.
    #[allow(clippy::too_many_lines, reason = "one arm a step reads best in one place")]
    fn apply(real: Real, truth: &Truth, step: Step) -> Real {
        let Real { runtime, cache, tiers, hand } = &real;
        runtime.block_on(async {
            match &step {
                Step::Get(key) => {
                    let got = cache.get(&name(*key)).await.unwrap().map(|value| *value);
                    assert_eq!(got, truth.value(*key));
                }
                Step::GetMany(keys) => check_many(cache.get_many(&names(keys)).await, keys, truth),
                Step::GetOrLoad(key, value) => {
                    let got = cache.get_or_load(&name(*key), || load(*value)).await.unwrap();
                    assert_eq!(Some(*got), truth.value(*key));
                }
                Step::LoadMany(keys, value) => {
                    let (value, named) = (*value, names(keys));
                    let many = cache.get_or_load_many(&named, |missing| async move {
                        load(value).await.map(|value| {
                            missing.keys().iter().map(|key| (key.clone(), value)).collect::<Vec<_>>()
                        })
                    });
                    check_many(many.await, keys, truth);
                }
                Step::Refresh(key, value) => {
                    let got = cache.refresh(&name(*key), |_| load(*value)).await.unwrap();
                    assert_eq!(got.map(|value| *value), truth.value(*key));
                }
                Step::Put(key, value, life) => {
                    let item = Item::new(*value);
                    let life = life.map(|millis| Duration::from_millis(millis.into()));
                    let item = life.map_or(item.clone(), |life| item.ttl(life));
                    cache.put(&name(*key), item).await.unwrap();
                }
                Step::PutMany(keys, value) => {
                    let items: Vec<_> = distinct(keys).into_iter().map(|key| (name(key), *value)).collect();
                    cache.put_many(items).await.into_iter().for_each(|put| assert!(put.is_ok()));
                }
                Step::PutIfAbsent(key, value) => {
                    let put = cache.put_if_absent(&name(*key), *value).await.unwrap();
                    assert!(!put || truth.value(*key) == Some(*value));
                }
                Step::Replace(key, value, true) => {
                    if let Some(seen) = cache.get(&name(*key)).await.unwrap() {
                        let version = seen.served().version;
                        assert!(cache.replace(&name(*key), version, *value).await.unwrap());
                    }
                }
                Step::Replace(key, value, false) => {
                    let never = terrace_core::Version::from_u64(1);
                    assert!(!cache.replace(&name(*key), never, *value).await.unwrap());
                }
                Step::Invalidate(key) => may_be_partial(cache.invalidate(&name(*key)).await),
                Step::Remove(key) => may_be_partial(cache.remove(&name(*key)).await),
                Step::RemoveMany(keys) => {
                    let keys = names(&distinct(keys));
                    cache.remove_many(&keys).await.into_iter().for_each(may_be_partial);
                }
                Step::Expire(key, millis) => {
                    let life = Duration::from_millis((*millis).into());
                    may_be_partial(cache.expire(&name(*key), life).await);
                }
                Step::Clear => may_be_partial(cache.clear().await),
                Step::Advance(millis) => hand.advance(Duration::from_millis((*millis).into())),
                Step::Down(_) | Step::Hang(_) | Step::Up(_) | Step::Forget(..) => {
                    // Without a store a tier that fails loses what nobody else has.
                    if truth.shape.store {
                        fail(tiers, &step);
                    }
                }
            }
            // Every other step leaves background work under way, as an application would.
            if matches!(step, Step::Up(_) | Step::Get(_)) {
                tokio::time::sleep(Duration::from_millis(120)).await;
            }
        });
        real
    }

    fn teardown(real: Real, truth: Truth) {
        real.runtime.block_on(async {
            for key in 0..6 {
                let got = real.cache.get(&name(key)).await.unwrap().map(|value| *value);
                assert_eq!(got, truth.value(key), "key {key} at the end");
            }
            real.cache.settled().await;
            assert_eq!(real.cache.stats().flights, 0);
        });
    }
}

/// Lets a cache tier fail, come back, or forget.
fn fail(tiers: &[Fake], step: &Step) {
    let (Step::Down(at) | Step::Hang(at) | Step::Up(at) | Step::Forget(at, _)) = step else { return };
    let Some(tier) = tiers.get(*at) else { return };
    match step {
        Step::Down(_) => tier.set_down(true),
        Step::Hang(_) => tier.set_hanging(true),
        Step::Forget(_, key) => _ = tier.evict("model", name(*key).as_bytes()),
        _ => {
            tier.set_down(false);
            tier.set_hanging(false);
        }
    }
}

fn distinct(keys: &[u8]) -> Vec<u8> {
    let keys: std::collections::BTreeSet<u8> = keys.iter().copied().collect();
    keys.into_iter().collect()
}

fn check_many(many: terrace_core::Many<u64>, keys: &[u8], truth: &Truth) {
    let got: Vec<_> =
        many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect();
    let wanted: Vec<_> = keys.iter().map(|key| truth.value(*key)).collect();
    assert_eq!(got, wanted);
}

prop_state_machine! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_cache_is_a_map_whatever_its_stack(sequential 1..60 => Real);
}

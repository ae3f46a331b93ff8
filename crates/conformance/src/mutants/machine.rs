//! Tiers over which caches do not read like a map: the machine finds a program that shows it.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::*;
use crate::machine::Machine;

fn finds(machine: Machine, role: Role, broken: fn() -> Subject) -> String {
    let found = machine
        .cases(500)
        .run(role, async || broken())
        .expect_err("the machine must find a program that shows the fault");
    found.to_string()
}

#[test]
fn leaves_an_older_copy_where_a_newer_one_is_put() {
    let broken = || {
        subject(rule(|cell, op, moment| match op {
            Op::Put { order: Order::Follow(_), .. } => (Change::Keep, Reply::Refused(None)),
            _ => transition(cell, op, moment),
        }))
    };
    let found = finds(Machine::alone(), Role::Cache, broken);
    assert!(found.contains("the tier, a fake"), "{found}");
    finds(Machine::together(), Role::Cache, broken);
}

#[test]
fn clears_nothing() {
    let broken = || subject(Hooks { clear: |_, _| (), ..Hooks::default() });
    let found = finds(Machine::alone(), Role::Cache, broken);
    assert!(found.contains("Clear"), "{found}");
}

#[test]
fn confuses_the_answers_of_a_batch() {
    let broken =
        || subject(Hooks { batch: |replies| replies.into_iter().rev().collect(), ..Hooks::default() });
    let found = finds(Machine::alone(), Role::Store, broken);
    assert!(found.contains("Many"), "{found}");
}

/// A tier of which each handle remembers what it has read, so that it misses the writes of others.
#[derive(Debug)]
struct Hoarding {
    inner: Arc<dyn Tier>,
    read: Mutex<HashMap<Bytes, Reply>>,
}

#[async_trait]
impl Tier for Hoarding {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let reads = matches!(op, Op::Get | Op::Lease { .. });
        let known = self.read.lock().remove(&key.bytes).filter(|_| reads);
        let reply = match known {
            Some(known) => known,
            None => self.inner.apply(key, op).await?,
        };
        if reads && matches!(reply, Reply::Hit(_)) {
            self.read.lock().insert(key.bytes.clone(), reply.clone());
        }
        Ok(reply)
    }

    async fn clear(&self) -> Result<()> {
        self.read.lock().clear();
        self.inner.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.inner.ping().await
    }
}

struct Hoarder(Fake);

impl Backend for Hoarder {
    fn name(&self) -> &str {
        "hoarder"
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(Hoarding { inner: self.0.open(namespace)?, read: Mutex::default() }))
    }
}

fn hoarder() -> Subject {
    let hand = Clock::manual();
    let fake = Fake::with_clock("hoarder", hand.clock());
    Subject::new(Hoarder(fake.clone())).second(Hoarder(fake.another_handle())).manual_clock(&hand)
}

#[test]
fn remembers_what_another_handle_has_changed() {
    for role in [Role::Cache, Role::Store] {
        let found = finds(Machine::together(), role, hoarder);
        assert!(!found.contains("1 process(es)"), "{found}");
    }
}

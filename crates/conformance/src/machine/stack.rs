//! The caches of a program, over the tier under test and fakes.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_core::{Backend, Builder, Cache, ErrorKind, Result, TierSettings, key::key_digest, near::Near};
use terrace_tier::{InvalidationLog, Namespace, Role, Tier, TierKey};

use super::{
    shape::{Probed, Shape},
    step::Act,
};
use crate::{Fake, Fault, Faulty, suite::Subject};

/// The budget of calls in real time, long enough for a server on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The caches and tiers of one program.
pub(super) struct Stack<N> {
    pub(super) shape: Shape,
    pub(super) subject: Subject,
    pub(super) caches: Vec<Cache<u64, u64, N>>,
    /// The processes that may have fills under way.
    pub(super) filling: BTreeSet<usize>,
    near: fn() -> N,
    name: String,
    /// The cache tiers, from near to far; `None` for the tier under test.
    tiers: Vec<Option<Fake>>,
    /// The cache tiers as the process uses them; only in a stack of one process.
    faulty: Vec<Faulty<Handle>>,
    store: Fake,
}

/// Whether a tier under test is on a manual clock, and whether it has a log as a cache tier.
pub(super) fn probe(subject: &Subject) -> Probed {
    let tier = subject.backend.open(&namespace("machine-probe".to_owned()));
    Probed {
        timed: subject.virtual_time,
        logged: tier.is_ok_and(|tier| tier.log().is_some()),
        notified_within: subject.notified_within,
    }
}

/// A namespace of copies. No cache uses its budget.
fn namespace(name: String) -> Namespace {
    Namespace::new(name, Role::Cache).with_budget(PATIENCE)
}

impl<N: Near<u64, u64>> Stack<N> {
    /// Builds the caches; must be called within the runtime of the program.
    pub(super) fn new(shape: &Shape, subject: Subject, near: fn() -> N) -> Result<Self> {
        let fake = |name: &str| Fake::with_clock(name, subject.clock.clone());
        let tier = |at: usize| match at {
            at if shape.is_subject(at) => None,
            0 if shape.nearer > 0 => Some(fake("tier0").with_log()),
            at => Some(fake(&format!("tier{at}"))),
        };
        let tiers = (0..shape.tiers()).map(tier).collect();
        let (store, caches) = (fake("store"), Vec::new());
        let name = format!("machine-{:016x}", fastrand::u64(..));
        let (faulty, filling) = (Vec::new(), BTreeSet::new());
        let mut stack =
            Self { shape: shape.clone(), subject, caches, filling, near, name, tiers, faulty, store };
        if shape.processes == 1 {
            stack.faulty = (0..stack.tiers.len()).map(|tier| Faulty::new(stack.handle(tier, 0))).collect();
        }
        for process in 0..shape.processes {
            let cache = stack.build(process)?;
            stack.caches.push(cache);
        }
        Ok(stack)
    }

    pub(super) fn cache(&self, process: usize) -> &Cache<u64, u64, N> {
        &self.caches[process % self.caches.len()]
    }

    fn build(&self, process: usize) -> Result<Cache<u64, u64, N>> {
        let near = if self.shape.near { (self.near)() } else { N::off() };
        let mut builder = Builder::new(self.name.clone(), near).clock(self.subject.clock.clone());
        // Virtual time needs no longer budgets than the default ones.
        let patience = (!self.shape.timed).then_some(PATIENCE);
        for tier in 0..self.tiers.len() {
            builder = match (self.faulty.get(tier).cloned(), patience) {
                (Some(tier), None) => builder.tier(tier),
                (Some(tier), Some(budget)) => builder.tier(tier.budget(budget)),
                (None, None) => builder.tier(self.handle(tier, process)),
                (None, Some(budget)) => builder.tier(self.handle(tier, process).budget(budget)),
            };
        }
        if self.shape.store {
            let store = match self.shape.role {
                Some(Role::Store) => Handle(self.subject_of(process)),
                _ => Handle(Arc::new(self.store.another_handle())),
            };
            builder = match patience {
                None => builder.store(store),
                Some(budget) => builder.store(store.budget(budget)),
            };
        }
        builder.build()
    }

    /// A cache tier as a process opens it.
    fn handle(&self, tier: usize, process: usize) -> Handle {
        Handle(match &self.tiers[tier] {
            Some(fake) => Arc::new(fake.another_handle()),
            None => self.subject_of(process),
        })
    }

    fn subject_of(&self, process: usize) -> Arc<dyn Backend> {
        let second = self.subject.second.as_ref().filter(|_| process % 2 == 1);
        Arc::clone(second.unwrap_or(&self.subject.backend))
    }

    /// Carries out an event: what happens to a process or to a tier.
    pub(super) async fn happen(&mut self, process: usize, act: &Act) -> Result<()> {
        match act {
            Act::Restart => {
                let process = process % self.caches.len();
                self.caches[process] = self.build(process)?;
            }
            Act::Beat => self.nearest(|fake| fake.log().beat()),
            Act::Lose => self.nearest(|fake| fake.log().lose()),
            Act::Evict(tier, key) => self.evict(*tier, *key).await,
            Act::Down(tier) => {
                self.faulty[*tier].arm(Fault::fail(ErrorKind::Unavailable).times(usize::MAX));
            }
            Act::Hang(tier) => self.faulty[*tier].arm(Fault::hang().times(usize::MAX)),
            Act::Up(tier) => self.faulty[*tier].disarm(),
            _ => {}
        }
        Ok(())
    }

    fn nearest(&self, call: impl Fn(&Fake)) {
        self.tiers.first().and_then(Option::as_ref).into_iter().for_each(call);
    }

    async fn evict(&self, tier: usize, key: u8) {
        let bytes = Bytes::copy_from_slice(&u64::from(key).to_be_bytes());
        match (&self.tiers[tier], &self.subject.evict) {
            (Some(fake), _) => _ = fake.evict(&self.name, &bytes),
            (None, Some(evict)) => {
                let digest = key_digest(&self.name, None, &bytes);
                evict(namespace(self.name.clone()), TierKey { bytes, digest }).await;
            }
            // The tier under test cannot forget a key on demand.
            (None, None) => {}
        }
    }
}

/// A backend of any type.
#[derive(Clone)]
pub(super) struct Handle(Arc<dyn Backend>);

impl Backend for Handle {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        self.0.open(namespace)
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        self.0.log()
    }
}

//! Random histories, compared reply by reply with the pure transition.

mod generator;
mod model;

use std::fmt::Write as _;

use fastrand::Rng;
use terrace_tier::{Error, ErrorKind, Fence, Op, Reply, Result, Role, TierKey, Version};

use self::model::{Model, Verdict};
use super::{Bench, Failure, Outcome, Subject, shortened};

/// Applies a random history of `steps` operations over a few keys to the tier and to
/// [`transition`](terrace_tier::transition). Every reply must be the one that the transition gives. The
/// history goes through both handles, with single operations, batches and clears; evictions and expiries
/// are part of it where the subject permits them.
///
/// A tier issues versions by its own clock: the model takes the issued version from the reply and checks
/// that it lies above the key's floor. A cache tier may forget a dead cell: the model then goes on with
/// both states.
///
/// # Errors
/// The first reply that no state of the key explains, with the key's history and the call that replays
/// it.
pub async fn oracle(subject: Subject, role: Role, seed: u64, steps: usize) -> Outcome {
    Oracle::new(subject, role, seed, false)?.run(steps).await
}

/// [`oracle`] over a tier that may fail at any call with a typed error, such as a tier behind
/// [`Faulty`](crate::Faulty). An error that leaves open whether the operation was applied must be
/// [`ErrorKind::Unknown`] or [`ErrorKind::Timeout`]. The key must then have the old or the new value.
///
/// # Errors
/// As [`oracle`].
pub async fn oracle_under_faults(subject: Subject, role: Role, seed: u64, steps: usize) -> Outcome {
    Oracle::new(subject, role, seed, true)?.run(steps).await
}

const KEYS: usize = 4;

struct Oracle {
    bench: Bench,
    second: Bench,
    faults: bool,
    seed: u64,
    steps: usize,
    rng: Rng,
    slots: Vec<Slot>,
    log: Vec<(Option<usize>, String)>,
}

/// One key of the history: its model, and the fences and versions that its replies gave.
struct Slot {
    key: TierKey,
    model: Model,
    fences: Vec<Fence>,
    versions: Vec<Version>,
    /// How often a new key took this slot because the state of the old one was unknown.
    retired: usize,
}

impl Oracle {
    fn new(subject: Subject, role: Role, seed: u64, faults: bool) -> Result<Self, Failure> {
        let bench = Bench::open(subject, role, "oracle")?;
        let second = bench.through_second_handle()?;
        let slots = (0..KEYS).map(|slot| Slot::new(&bench, slot, 0)).collect();
        let rng = Rng::with_seed(seed);
        Ok(Self { bench, second, faults, seed, steps: 0, rng, slots, log: Vec::new() })
    }

    async fn run(mut self, steps: usize) -> Outcome {
        self.steps = steps;
        for _ in 0..steps {
            match self.rng.u8(..100) {
                0..3 if self.bench.role() == Role::Cache => self.clear().await?,
                3..6 if self.bench.subject.evict.is_some() => self.evict().await?,
                6..12 if self.bench.subject.virtual_time => self.pass_time().await,
                12..22 => self.batch().await?,
                _ => self.single().await?,
            }
        }
        for slot in 0..KEYS {
            self.apply(slot, Op::Get).await?;
        }
        Ok(())
    }

    async fn single(&mut self) -> Outcome {
        let slot = self.rng.usize(..KEYS);
        let call = self.kind();
        let op = self.op(slot, call);
        self.apply(slot, op).await
    }

    async fn apply(&mut self, slot: usize, op: Op) -> Outcome {
        let bench = if self.rng.bool() { &self.bench } else { &self.second };
        let reply = bench.tier.apply(&self.slots[slot].key, op.clone()).await;
        self.compare(slot, &op, reply).await
    }

    async fn batch(&mut self) -> Outcome {
        let call = self.kind();
        let mut slots: Vec<usize> = (0..KEYS).collect();
        self.rng.shuffle(&mut slots);
        slots.truncate(self.rng.usize(1..=KEYS));
        let ops: Vec<_> = slots.iter().map(|slot| (*slot, self.op(*slot, call))).collect();
        let batch = ops.iter().map(|(slot, op)| (self.slots[*slot].key.clone(), op.clone())).collect();
        let replies = self.bench.tier.apply_many(batch).await;
        super::ensure_eq!(replies.len(), ops.len(), "a batch must have one answer for each key");
        for ((slot, op), reply) in ops.into_iter().zip(replies) {
            self.compare(slot, &op, reply).await?;
        }
        Ok(())
    }

    async fn pass_time(&mut self) {
        let time = self.ttl();
        self.bench.wait(time).await;
        self.log.push((None, format!("{time:?} pass")));
    }

    async fn clear(&mut self) -> Outcome {
        let cleared = self.bench.tier.clear().await;
        self.log.push((None, format!("clear -> {cleared:?}")));
        let surely = match cleared {
            Ok(()) => true,
            Err(error) if self.faults && is_ambiguous(&error) => false,
            Err(_) if self.faults => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.slots.iter_mut().for_each(|slot| slot.model.clear(surely));
        self.bench.wait(self.bench.subject.notified_within).await;
        Ok(())
    }

    async fn evict(&mut self) -> Outcome {
        let slot = self.rng.usize(..KEYS);
        let key = self.slots[slot].key.clone();
        if let Some(evict) = self.bench.subject.evict.clone() {
            evict(self.bench.namespace.clone(), key).await;
            self.log.push((Some(slot), "evict".to_owned()));
            self.slots[slot].model.evict();
        }
        Ok(())
    }

    async fn compare(&mut self, slot: usize, op: &Op, reply: Result<Reply>) -> Outcome {
        self.log.push((Some(slot), format!("{} -> {}", shortened(op), shortened(&reply))));
        let now = self.bench.now();
        match reply {
            Ok(reply) => {
                let found = &mut self.slots[slot];
                found.learn(&reply);
                match found.model.apply(op, &reply, now) {
                    Verdict::Agrees => Ok(()),
                    Verdict::Disagrees(expected) => Err(self.disagreement(slot, &expected)),
                }
            }
            Err(error) if !self.faults => Err(error.into()),
            // A lease whose answer was lost may be alive. No value depends on it, so the model keeps both
            // states.
            Err(_) if matches!(op, Op::Lease { .. }) => {
                self.slots[slot].model.may_have_applied(op, now);
                Ok(())
            }
            Err(error) if is_ambiguous(&error) && !matches!(op, Op::Get) => self.retire(slot, op).await,
            Err(_) => Ok(()),
        }
    }

    /// Checks that an operation of unknown outcome left the old or the new value. The history then goes on
    /// with another key, because the version that the operation may have issued is unknown.
    async fn retire(&mut self, slot: usize, op: &Op) -> Outcome {
        let now = self.bench.now();
        let key = self.slots[slot].key.clone();
        if let Ok(reply) = self.bench.tier.apply(&key, Op::Get).await {
            self.log.push((Some(slot), format!("get -> {}", shortened(&reply))));
            let body = match &reply {
                Reply::Hit(stored) => Some(&stored.body),
                _ => None,
            };
            if !self.slots[slot].model.explains(op, body, now) {
                return Err(self.disagreement(slot, "the value before the operation or after it"));
            }
        }
        let retired = self.slots[slot].retired + 1;
        self.slots[slot] = Slot::new(&self.bench, slot, retired);
        self.log.retain(|(logged, _)| *logged != Some(slot));
        Ok(())
    }

    fn disagreement(&self, slot: usize, expected: &str) -> Failure {
        let mut what = format!(
            "the last reply is not the reply of the transition\n  expected {expected}\n  history of the key:"
        );
        for (number, (logged, line)) in self.log.iter().enumerate() {
            if logged.is_none_or(|logged| logged == slot) {
                // Writing to a string cannot fail.
                let _ = write!(what, "\n    {number}: {line}");
            }
        }
        let name = if self.faults { "oracle_under_faults" } else { "oracle" };
        let (role, seed, steps) = (self.bench.role(), self.seed, self.steps);
        let _ = write!(what, "\n  replay with {name}(subject, Role::{role:?}, {seed}, {steps})");
        Failure::Broken { at: "the oracle".to_owned(), what }
    }
}

/// Whether the operation may have been applied although it failed.
fn is_ambiguous(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unknown | ErrorKind::Timeout)
}

impl Slot {
    fn new(bench: &Bench, slot: usize, retired: usize) -> Self {
        Self {
            key: bench.key(format!("key {slot}.{retired}")),
            model: Model::new(bench.role()),
            fences: Vec::new(),
            versions: Vec::new(),
            retired,
        }
    }

    fn learn(&mut self, reply: &Reply) {
        let version = match reply {
            Reply::Miss(fence) => {
                self.fences.push(*fence);
                fence.version
            }
            Reply::Hit(stored) | Reply::Refused(Some(stored)) => stored.version,
            Reply::Kept(version) | Reply::Done { version, .. } => *version,
            _ => return,
        };
        self.versions.push(version);
    }
}

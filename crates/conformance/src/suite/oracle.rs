//! Random histories, compared reply by reply with the pure transition.

use std::{fmt::Write as _, time::Duration};

use bytes::Bytes;
use fastrand::Rng;
use terrace_tier::{
    Condition, Deadlines, Error, ErrorKind, Fence, Op, Order, Reply, Result, Role, TierKey, Timestamp, Token,
    Version,
};

use super::{
    Bench, Failure, Outcome, Subject,
    bench::LONG,
    model::{Model, Verdict},
    shortened,
};
use crate::calls::Call;

/// Applies a random history of `steps` operations over a few keys to the tier and to
/// [`transition`](terrace_tier::transition), through both handles, one by one and in batches, with
/// clears, and with evictions and expiries where the subject permits them. Every reply must be the transition's.
///
/// A tier issues versions by its own clock: the model is told the issued one and checks that it
/// lies above the key's floor. A cache tier may forget dead cells: the model then follows both ways.
///
/// # Errors
/// The first reply that no state of the key explains, with the key's history and what replays it.
pub async fn oracle(subject: Subject, role: Role, seed: u64, steps: usize) -> Outcome {
    Oracle::new(subject, role, seed, false)?.run(steps).await
}

/// [`oracle`] over a tier that may fail at any call with a typed error, such as one behind
/// [`Faulty`](crate::Faulty). An error that leaves open whether the operation was applied must be
/// [`ErrorKind::Unknown`] or [`ErrorKind::Timeout`]; the key then has either value, and no other.
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

/// One key of the history, and what its replies have shown.
struct Slot {
    key: TierKey,
    model: Model,
    fences: Vec<Fence>,
    versions: Vec<Version>,
    /// How often the key was given up because its state was not known.
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
        super::ensure_eq!(replies.len(), ops.len(), "one answer a key");
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
        self.bench.wait(self.bench.subject.hears_within).await;
        Ok(())
    }

    async fn evict(&mut self) -> Outcome {
        let slot = self.rng.usize(..KEYS);
        let key = self.slots[slot].key.clone();
        if let Some(evict) = self.bench.subject.evict.clone() {
            evict(self.bench.space.clone(), key).await;
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
            // A lease whose answer was lost may live: no value depends on it.
            Err(_) if matches!(op, Op::Lease { .. }) => {
                self.slots[slot].model.may_have_applied(op, now);
                Ok(())
            }
            Err(error) if is_ambiguous(&error) && !matches!(op, Op::Get) => self.retire(slot, op).await,
            Err(_) => Ok(()),
        }
    }

    /// Checks that an operation of unknown outcome left the old or the new value, then goes on with
    /// another key, since the version that it may have issued is not known.
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
                return Err(self.disagreement(slot, "the value before the operation, or after it"));
            }
        }
        let retired = self.slots[slot].retired + 1;
        self.slots[slot] = Slot::new(&self.bench, slot, retired);
        self.log.retain(|(of, _)| *of != Some(slot));
        Ok(())
    }

    fn disagreement(&self, slot: usize, expected: &str) -> Failure {
        let mut what =
            format!("the last reply is not the transition's\n  expected {expected}\n  history of the key:");
        for (number, (of, line)) in self.log.iter().enumerate() {
            if of.is_none_or(|of| of == slot) {
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

/// Whether the operation may have been applied all the same.
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

/// The generator.
impl Oracle {
    fn kind(&mut self) -> Call {
        match (self.rng.u8(..20), self.bench.role()) {
            (0..2, _) => Call::Get,
            (2..7, _) => Call::Lease,
            (7..12, _) => Call::Fill,
            (12..16, _) => Call::Put,
            (16, _) => Call::Remove,
            (17, _) => Call::Expire,
            (_, Role::Cache) => Call::Invalidate,
            (_, Role::Store) => Call::Remove,
        }
    }

    fn op(&mut self, slot: usize, call: Call) -> Op {
        let cache = self.bench.role() == Role::Cache;
        match call {
            Call::Lease => {
                let over = (cache && self.rng.bool()).then(|| self.version(slot));
                let replaces = if self.rng.u8(..3) == 0 { self.fence(slot).token } else { Token::NONE };
                Op::Lease { token: Token::from_u64(self.rng.u64(1..)), ttl: self.ttl(), over, replaces }
            }
            Call::Fill => {
                let fence = self.fence(slot);
                let version = if self.rng.u8(..4) == 0 { self.version(slot) } else { fence.version };
                Op::Fill { fence, version, deadlines: self.deadlines(), body: self.body() }
            }
            Call::Put => {
                let order = self.order(slot, cache);
                Op::Put { order, deadlines: self.deadlines(), body: self.body(), tombstone_ttl: self.ttl() }
            }
            Call::Invalidate => {
                let version = self.rng.bool().then(|| self.version(slot));
                Op::Invalidate { version, tombstone_ttl: self.ttl() }
            }
            Call::Remove => Op::Remove { tombstone_ttl: self.ttl() },
            Call::Expire => Op::Expire { deadlines: self.deadlines() },
            _ => Op::Get,
        }
    }

    fn order(&mut self, slot: usize, cache: bool) -> Order {
        let choice = self.rng.u8(..if cache { 10 } else { 6 });
        match choice {
            0..3 => Order::Author(Condition::Always),
            3 => Order::Author(Condition::Absent),
            4..6 => Order::Author(Condition::Version(self.version(slot))),
            6..9 => Order::Follow(self.version(slot)),
            _ => Order::Unfenced(self.version(slot)),
        }
    }

    /// One of the key's latest fences, rarely one that nobody gave.
    fn fence(&mut self, slot: usize) -> Fence {
        let fences = &self.slots[slot].fences;
        let recent = fences.len().min(3);
        if recent == 0 || self.rng.u8(..10) == 0 {
            let token = Token::from_u64(self.rng.u64(..));
            return Fence { token, version: self.version(slot) };
        }
        fences[fences.len() - 1 - self.rng.usize(..recent)]
    }

    /// One of the key's latest versions, or one beside it, rarely one 10 s later.
    fn version(&mut self, slot: usize) -> Version {
        let versions = &self.slots[slot].versions;
        let recent = versions.len().min(3);
        let near = match recent {
            0 => self.bench.now().as_millis().saturating_mul(1000),
            _ => versions[versions.len() - 1 - self.rng.usize(..recent)].as_u64(),
        };
        let ahead_of_the_clock = if self.rng.u8(..10) == 0 { 10_000_000 } else { 0 };
        Version::from_u64((near + ahead_of_the_clock + self.rng.u64(..3)).saturating_sub(1))
    }

    /// So long that the run's own time does not matter, unless the time is turned by hand.
    fn ttl(&mut self) -> Duration {
        match self.rng.u8(..5) {
            1 if self.bench.subject.virtual_time => Duration::from_millis(1),
            2 if self.bench.subject.virtual_time => Duration::from_millis(1500),
            3 if self.bench.subject.virtual_time => LONG * 3,
            _ => LONG,
        }
    }

    /// Far away, or long past.
    fn deadlines(&mut self) -> Deadlines {
        let now = self.bench.now();
        let later = |millis: u64| now.after(LONG + Duration::from_millis(millis));
        match self.rng.u8(..8) {
            0 => Deadlines::forever(now),
            1 => Deadlines::ttl(Timestamp::from_millis(now.as_millis().saturating_sub(5000)), Duration::ZERO),
            2 => {
                let (fresh, stale) = (self.rng.u64(..1000), self.rng.u64(1000..2000));
                Deadlines {
                    written: now,
                    fresh_until: later(fresh),
                    stale_until: later(stale),
                    expires_at: later(3000),
                }
            }
            _ => Deadlines::ttl(now, self.ttl()),
        }
    }

    fn body(&mut self) -> Option<Bytes> {
        (self.rng.u8(..6) > 0).then(|| Bytes::from(format!("body {}", self.log.len())))
    }
}

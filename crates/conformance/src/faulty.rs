//! A backend that fails on cue.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use fastrand::Rng;
use parking_lot::Mutex;
use terrace_tier::{
    Backend, Error, ErrorKind, Finding, FindingWatcher, FrontStore, InvalidationLog, LeaseWaiter, Namespace,
    Op, Publication, Publish, Reply, Result, Tier, TierKey,
};
use tokio::sync::watch;

use crate::calls::Call;

/// Passes every call on to `B`, unless an armed [`Fault`] meets the call.
///
/// A clone shares the faults. While no fault is armed, the wrapper changes nothing. A batch counts as
/// one call of the kind of its first operation, and a fault meets the whole batch.
///
/// # Example
/// ```
/// use terrace_conformance::{Call, Fake, Fault, Faulty};
/// use terrace_core::ErrorKind;
///
/// let postgres = Faulty::new(Fake::named("postgres"));
/// // The next two puts are refused; the answer of the third is lost on its way back.
/// postgres.arm(Fault::fail(ErrorKind::ReadOnly).on(Call::Put).times(2));
/// postgres.arm(Fault::lose_answer().on(Call::Put));
/// assert_eq!(postgres.armed(), 3);
/// ```
pub struct Faulty<B> {
    inner: Arc<B>,
    faults: Arc<Faults>,
}

/// A fault: what goes wrong, with which kind of call, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    effect: Effect,
    on: Option<Call>,
    times: usize,
}

#[derive(Clone, Copy, Debug)]
enum Effect {
    Fail(ErrorKind),
    LoseAnswer,
    Delay(Duration),
    HangBefore,
    HangAfter,
}

impl Fault {
    const fn new(effect: Effect) -> Self {
        Self { effect, on: None, times: 1 }
    }

    /// The call fails with `kind`, and the backend does nothing.
    pub const fn fail(kind: ErrorKind) -> Self {
        Self::new(Effect::Fail(kind))
    }

    /// The call is carried out, but the caller gets [`ErrorKind::Unknown`]; for a call that only reads,
    /// [`ErrorKind::Unavailable`].
    pub const fn lose_answer() -> Self {
        Self::new(Effect::LoseAnswer)
    }

    /// The call is carried out after `time`.
    pub const fn delay(time: Duration) -> Self {
        Self::new(Effect::Delay(time))
    }

    /// The call waits until [`Faulty::disarm`], and is then carried out if its caller still waits.
    pub const fn hang() -> Self {
        Self::new(Effect::HangBefore)
    }

    /// The call is carried out, and its answer waits until [`Faulty::disarm`].
    pub const fn hang_answer() -> Self {
        Self::new(Effect::HangAfter)
    }

    /// Limits the fault to calls of this kind; without this it meets calls of any kind.
    #[must_use]
    pub const fn on(self, call: Call) -> Self {
        Self { on: Some(call), ..self }
    }

    /// How many calls the fault meets; one unless set.
    #[must_use]
    pub const fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

struct Faults {
    armed: Mutex<Armed>,
    /// Counts the calls of `disarm`; the calls that hang wait for the next one.
    disarmed: watch::Sender<u64>,
}

#[derive(Default)]
struct Armed {
    faults: Vec<Fault>,
    random: Option<(Rng, u8)>,
}

impl<B: Backend> Faulty<B> {
    /// Wraps `backend`, with no fault armed.
    pub fn new(backend: B) -> Self {
        let faults = Faults { armed: Mutex::default(), disarmed: watch::Sender::new(0) };
        Self { inner: Arc::new(backend), faults: Arc::new(faults) }
    }

    /// Arms one fault, after the faults that are armed already. Of the faults that fit a call, the one
    /// that was armed first meets it.
    pub fn arm(&self, fault: Fault) {
        self.faults.armed.lock().faults.push(fault);
    }

    /// From now on every call fails with a chance of `percent`. Half of these calls do nothing, half are
    /// carried out and lose their answer. The same seed gives the same faults to the same calls.
    pub fn arm_random(&self, seed: u64, percent: u8) {
        self.faults.armed.lock().random = Some((Rng::with_seed(seed), percent));
    }

    /// Drops all faults and lets the calls that hang go on.
    pub fn disarm(&self) {
        *self.faults.armed.lock() = Armed::default();
        self.faults.disarmed.send_modify(|count| *count += 1);
    }

    /// How many calls the armed faults are still to meet, not counting random faults.
    pub fn armed(&self) -> usize {
        self.faults.armed.lock().faults.iter().map(|fault| fault.times).sum()
    }

    /// The wrapped backend.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }
}

impl<B> Clone for Faulty<B> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), faults: Arc::clone(&self.faults) }
    }
}

impl<B: fmt::Debug> fmt::Debug for Faulty<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Faulty").field(&self.inner).finish()
    }
}

impl<B: Backend> Backend for Faulty<B> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let inner = self.inner.open(namespace)?;
        Ok(Arc::new(FaultyTier {
            inner,
            name: self.inner.name().to_owned(),
            faults: Arc::clone(&self.faults),
        }))
    }
}

struct FaultyTier {
    inner: Arc<dyn Tier>,
    name: String,
    faults: Arc<Faults>,
}

impl fmt::Debug for FaultyTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FaultyTier").field(&self.inner).finish()
    }
}

#[async_trait]
impl Tier for FaultyTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        self.meet(Call::of(&op), self.inner.apply(key, op)).await?
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let keys = batch.len();
        let Some(call) = batch.first().map(|(_, op)| Call::of(op)) else {
            return self.inner.apply_many(batch).await;
        };
        match self.meet(call, self.inner.apply_many(batch)).await {
            Ok(replies) => replies,
            Err(error) => vec![Err(error); keys],
        }
    }

    async fn clear(&self) -> Result<()> {
        self.meet(Call::Clear, self.inner.clear()).await?
    }

    async fn ping(&self) -> Result<()> {
        self.meet(Call::Ping, self.inner.ping()).await?
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        self.meet(Call::Ping, self.inner.ready()).await?
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        self.inner.watch_findings(watcher);
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        self.inner.log()
    }

    /// An armed delay may exceed the budget that the inner tier keeps.
    fn keeps_budget(&self) -> bool {
        false
    }

    fn may_be_held(&self) -> bool {
        self.inner.may_be_held()
    }

    fn publish(&self) -> Option<&dyn Publish> {
        self.inner.publish().map(|_| self as &dyn Publish)
    }

    /// The inner tier's waiter: no fault meets its calls.
    fn front_store(&self) -> Option<&dyn FrontStore> {
        self.inner.front_store()
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.inner.lease_waiter()
    }
}

#[async_trait]
impl Publish for FaultyTier {
    async fn publish(&self, publication: Publication) -> Result<Reply> {
        match self.inner.publish() {
            Some(inner) => self.meet(Call::Publish, inner.publish(publication)).await?,
            None => Err(self.error(ErrorKind::Unsupported, "the inner tier keeps no watermark")),
        }
    }
}

impl FaultyTier {
    /// Carries a call out, with the effect of the fault that meets it.
    async fn meet<T>(&self, call: Call, work: impl Future<Output = T>) -> Result<T> {
        match self.faults.take(call) {
            None => Ok(work.await),
            Some(Effect::Fail(kind)) => Err(self.error(kind, "an armed fault; nothing was done")),
            Some(Effect::Delay(time)) => {
                tokio::time::sleep(time).await;
                Ok(work.await)
            }
            Some(Effect::HangBefore) => {
                self.faults.hang().await;
                Ok(work.await)
            }
            Some(Effect::HangAfter) => {
                let done = work.await;
                self.faults.hang().await;
                Ok(done)
            }
            Some(Effect::LoseAnswer) => {
                work.await;
                let kind = if call.is_read() { ErrorKind::Unavailable } else { ErrorKind::Unknown };
                Err(self.error(kind, "an armed fault: the answer was lost"))
            }
        }
    }

    fn error(&self, kind: ErrorKind, message: &str) -> Error {
        Error::new(kind, message).at_tier(&self.name)
    }
}

impl Faults {
    /// Uses up the fault that meets this call, and returns its effect.
    fn take(&self, call: Call) -> Option<Effect> {
        let mut armed = self.armed.lock();
        let fits = |fault: &Fault| fault.times > 0 && fault.on.is_none_or(|on| on == call);
        if let Some(at) = armed.faults.iter().position(fits) {
            armed.faults[at].times -= 1;
            let effect = armed.faults[at].effect;
            armed.faults.retain(|fault| fault.times > 0);
            return Some(effect);
        }
        let (rng, percent) = armed.random.as_mut()?;
        let met = rng.u8(..100) < *percent;
        let effect = if rng.bool() { Effect::Fail(ErrorKind::Unavailable) } else { Effect::LoseAnswer };
        met.then_some(effect)
    }

    async fn hang(&self) {
        // An error means that the sender is gone, but this call keeps it alive.
        let _ = self.disarmed.subscribe().changed().await;
    }
}

//! The network between processes and servers: it delays, reorders and loses, as a plan has it.

use std::{
    collections::BTreeMap,
    fmt,
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use async_trait::async_trait;
use fastrand::Rng;
use futures_util::FutureExt;
use parking_lot::Mutex;
use terrace_core::{Backend, Error, ErrorKind, Op, Reply, Result, Role, Space, Tier, TierKey};

use super::{plan::Weather, recorder::Recorder, witness};
use crate::history::{Fact, Process};

/// All messages on their way.
pub(super) struct Network {
    state: Mutex<State>,
    recorder: Arc<Recorder>,
}

struct State {
    tick: u64,
    seed: u64,
    weather: Weather,
    /// By the millisecond in which they arrive.
    messages: BTreeMap<u64, Vec<Message>>,
    cuts: Vec<Cut>,
    down: Vec<bool>,
}

/// A link that loses messages until a time, or makes them take longer.
struct Cut {
    slot: usize,
    server: usize,
    way: Way,
    until: u64,
    longer: Option<u64>,
}

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a process to a server.
    There,
    /// From a server to a process.
    Back,
}

enum Message {
    Request(Arc<Call>),
    Answer(Arc<Call>, Answer),
}

/// One call of a process on its way there and back.
struct Call {
    link: Link,
    tier: Arc<dyn Tier>,
    ask: Ask,
    /// Its caller has given up, or is dead.
    gone: AtomicBool,
    settled: Mutex<(Option<Answer>, Option<Waker>)>,
}

#[derive(Clone)]
enum Ask {
    One(TierKey, Op),
    Many(Vec<(TierKey, Op)>),
    Clear,
    Ping,
}

enum Answer {
    One(Result<Reply>),
    Many(Vec<Result<Reply>>),
    Done(Result<()>),
}

/// Who talks to which server, and what that is to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The place of the process, whichever life it is in.
    pub(super) slot: usize,
    pub(super) process: Process,
    pub(super) server: usize,
    pub(super) role: Role,
    /// The server issues the versions of a cache without a store.
    pub(super) authority: bool,
}

impl Network {
    pub(super) fn new(seed: u64, weather: Weather, servers: usize, recorder: Arc<Recorder>) -> Arc<Self> {
        let (messages, cuts, down) = (BTreeMap::new(), Vec::new(), vec![false; servers]);
        let state = Mutex::new(State { tick: 0, seed, weather, messages, cuts, down });
        Arc::new(Self { state, recorder })
    }

    pub(super) fn cut(&self, slot: usize, server: usize, way: Way, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, way, until, longer: None });
    }

    pub(super) fn slow(&self, slot: usize, server: usize, way: Way, longer: u64, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, way, until, longer: Some(longer) });
    }

    /// While a server is down, it refuses connections.
    pub(super) fn set_down(&self, server: usize, down: bool) {
        self.state.lock().down[server] = down;
    }

    /// From now on every message arrives, and soon.
    pub(super) fn heal(&self) {
        let mut state = self.state.lock();
        state.weather = Weather::FAIR;
        state.cuts.clear();
        state.down.iter_mut().for_each(|down| *down = false);
    }

    /// Carries out what arrives in this millisecond.
    pub(super) fn deliver(&self, tick: u64) {
        let arrived = {
            let mut state = self.state.lock();
            state.tick = tick;
            state.cuts.retain(|cut| tick < cut.until);
            state.messages.remove(&tick).unwrap_or_default()
        };
        for message in arrived {
            match message {
                Message::Answer(call, answer) => call.settle(answer),
                Message::Request(call) => {
                    let down = self.state.lock().down[call.link.server];
                    let answer = if down { call.refused() } else { call.carry_out(&self.recorder) };
                    let (link, of) = (call.link, call.ask.name());
                    self.send(link, Way::Back, of, Message::Answer(call, answer));
                }
            }
        }
    }

    fn send(&self, link: Link, way: Way, of: u64, message: Message) {
        let mut state = self.state.lock();
        match state.delay(link, way, of) {
            Some(delay) => {
                let due = state.tick + delay;
                state.messages.entry(due).or_default().push(message);
            }
            None => self.recorder.count(|counts| counts.lost += 1),
        }
    }
}

impl State {
    /// How many milliseconds a message takes; `None` loses it. That depends on the message alone,
    /// so that a plan with fewer steps treats those that are left as before.
    fn delay(&self, link: Link, way: Way, of: u64) -> Option<u64> {
        let tick = self.tick;
        let cut = |cut: &&Cut| {
            cut.slot == link.slot && cut.server == link.server && cut.way == way && tick < cut.until
        };
        let mut longer = 0;
        for cut in self.cuts.iter().filter(cut) {
            longer += cut.longer?;
        }
        let Weather { lost, stuck, slow } = self.weather;
        let place = (link.slot * 16 + link.server) as u64 * 2 + u64::from(way == Way::Back);
        let mut rng = Rng::with_seed([place, of, tick].into_iter().fold(self.seed, mixed));
        match rng.u16(..1000) {
            chance if chance < lost => None,
            chance if chance < lost + stuck => Some(longer + rng.u64(40..400)),
            chance if chance < lost + stuck + slow => Some(longer + rng.u64(3..40)),
            _ if lost + stuck + slow == 0 => Some(longer + 1),
            _ => Some(longer + rng.u64(1..3)),
        }
    }
}

/// One step of splitmix64, with another number mixed in.
fn mixed(state: u64, number: u64) -> u64 {
    let mut bits = (state ^ number).wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Ask {
    /// A number for what is asked: its kind, and the first key.
    fn name(&self) -> u64 {
        let of = |key: &TierKey, op: &Op| witness::key_of(key) * 16 + crate::Call::of(op) as u64;
        match self {
            Self::One(key, op) => of(key, op),
            Self::Many(batch) => batch.first().map_or(0, |(key, op)| of(key, op)),
            Self::Clear => u64::MAX,
            Self::Ping => u64::MAX - 1,
        }
    }
}

impl Call {
    fn settle(&self, answer: Answer) {
        let waker = {
            let mut settled = self.settled.lock();
            settled.0 = Some(answer);
            settled.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn refused(&self) -> Answer {
        let error = || Error::new(ErrorKind::Unavailable, "the server is down");
        match &self.ask {
            Ask::One(..) => Answer::One(Err(error())),
            Ask::Many(batch) => Answer::Many(batch.iter().map(|_| Err(error())).collect()),
            Ask::Clear | Ask::Ping => Answer::Done(Err(error())),
        }
    }

    fn carry_out(&self, recorder: &Recorder) -> Answer {
        let late = self.gone.load(Ordering::Relaxed);
        if late {
            recorder.count(|counts| counts.late += 1);
        }
        match self.ask.clone() {
            Ask::One(key, op) => {
                let reply = at_once(self.tier.apply(&key, op.clone()));
                witness::carried_out(recorder, self.link, late, &key, &op, &reply);
                Answer::One(reply)
            }
            Ask::Many(batch) => {
                let replies = self.tier.apply_many(batch.clone()).now_or_never().unwrap_or_default();
                for ((key, op), reply) in batch.iter().zip(&replies) {
                    witness::carried_out(recorder, self.link, late, key, op, reply);
                }
                Answer::Many(replies)
            }
            Ask::Clear => Answer::Done(at_once(self.tier.clear())),
            Ask::Ping => Answer::Done(at_once(self.tier.ping())),
        }
    }
}

/// What a server of this process answers: it never waits.
fn at_once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never().unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "the server hangs")))
}

/// A server as one process sees it, at the other end of the network.
pub(super) struct Wired {
    pub(super) network: Arc<Network>,
    pub(super) link: Link,
    pub(super) server: Arc<dyn Backend>,
    /// Writes that failed are answered as if they had not: a switch.
    pub(super) lies: bool,
}

impl Backend for Wired {
    fn name(&self) -> &str {
        self.server.name()
    }

    fn open(&self, space: &Space) -> Result<Arc<dyn Tier>> {
        let (network, tier) = (Arc::clone(&self.network), self.server.open(space)?);
        Ok(Arc::new(WiredTier { network, link: self.link, tier, lies: self.lies }))
    }
}

struct WiredTier {
    network: Arc<Network>,
    link: Link,
    tier: Arc<dyn Tier>,
    lies: bool,
}

impl fmt::Debug for WiredTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WiredTier").field("link", &self.link).finish_non_exhaustive()
    }
}

impl WiredTier {
    async fn ask(&self, ask: Ask) -> Answer {
        let (gone, settled) = (AtomicBool::new(false), Mutex::default());
        let call = Arc::new(Call { link: self.link, tier: Arc::clone(&self.tier), ask, gone, settled });
        let of = call.ask.name();
        self.network.send(self.link, Way::There, of, Message::Request(Arc::clone(&call)));
        let waiting = Waiting(call);
        poll_fn(|context| {
            let mut settled = waiting.0.settled.lock();
            match settled.0.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    settled.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// Tells the call when its caller goes away.
struct Waiting(Arc<Call>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

#[async_trait]
impl Tier for WiredTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        if self.lies && matches!(op, Op::Invalidate { .. }) {
            // Its caller gives up; what is answered here instead comes just before.
            let asked = tokio::time::timeout(LIE, self.ask(Ask::One(key.clone(), op))).await;
            let lie = Reply::Done { existed: true, version: terrace_core::Version::NONE };
            return if let Ok(Answer::One(Ok(reply))) = asked { Ok(reply) } else { Ok(lie) };
        }
        let call = crate::Call::of(&op);
        let Answer::One(reply) = self.ask(Ask::One(key.clone(), op)).await else { return Err(garbled()) };
        witness::heard(&self.network.recorder, self.link, key, call, &reply);
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let keys: Vec<(TierKey, crate::Call)> =
            batch.iter().map(|(key, op)| (key.clone(), crate::Call::of(op))).collect();
        let Answer::Many(replies) = self.ask(Ask::Many(batch)).await else { return Vec::new() };
        for ((key, call), reply) in keys.iter().zip(&replies) {
            witness::heard(&self.network.recorder, self.link, key, *call, reply);
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        let Answer::Done(done) = self.ask(Ask::Clear).await else { return Err(garbled()) };
        if done.is_ok() {
            let Link { process, server: tier, .. } = self.link;
            self.network.recorder.fact(Fact::Confirmed { tier, process, key: None, put: false });
        }
        done
    }

    async fn ping(&self) -> Result<()> {
        let Answer::Done(done) = self.ask(Ask::Ping).await else { return Err(garbled()) };
        done
    }
}

/// A little less than the budget of a cache tier.
const LIE: std::time::Duration = std::time::Duration::from_millis(45);

fn garbled() -> Error {
    Error::new(ErrorKind::Backend, "an answer to another question")
}

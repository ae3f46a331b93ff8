//! The network between processes and servers: it delays, reorders and loses, as a plan has it.

use std::{collections::BTreeMap, sync::Arc};

use fastrand::Rng;
use parking_lot::Mutex;
use terrace_tier::{Token, lease::LeaseEnd};

use super::{
    call::{Answer, Ask, Call, Link},
    leases::Listener,
    plan::Weather,
    recorder::Recorder,
};

/// All messages on their way.
pub(super) struct Network {
    state: Mutex<State>,
    pub(super) recorder: Arc<Recorder>,
}

struct State {
    tick: u64,
    seed: u64,
    weather: Weather,
    /// By the millisecond in which they arrive.
    messages: BTreeMap<u64, Vec<Message>>,
    /// Questions of followers whose answers are held back.
    parked: Vec<Parked>,
    cuts: Vec<Cut>,
    down: Vec<bool>,
}

/// A link that loses messages until a time, or makes them take longer.
struct Cut {
    slot: usize,
    server: usize,
    ways: Ways,
    until: u64,
    longer: Option<u64>,
}

/// Which messages a cut is about.
#[derive(PartialEq, Eq)]
enum Ways {
    /// All in one way.
    One(Way),
    /// Those of the follower's connection, both ways.
    Log,
}

/// The way of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a process to a server.
    There,
    /// From a server to a process.
    Back,
}

/// Whether an entry of a log is told again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Repeat {
    No,
    AtOnce,
    /// With the entries that come next.
    Later,
}

enum Message {
    Asked(Arc<Call>),
    Answered(Arc<Call>, Answer),
    Pushed(Push),
}

/// What a server tells a process by itself: a lease has ended.
#[derive(Clone)]
pub(super) struct Push {
    pub(super) listener: Listener,
    pub(super) token: Token,
    pub(super) ended: LeaseEnd,
}

struct Parked {
    call: Arc<Call>,
    /// What the log's head said when the question came.
    head: super::log::Head,
    until: u64,
}

/// How long a server holds an answer back while nothing is appended.
const HELD_BACK: u64 = 100;

impl Network {
    pub(super) fn new(seed: u64, weather: Weather, servers: usize, recorder: Arc<Recorder>) -> Arc<Self> {
        let (messages, parked, cuts, down) = (BTreeMap::new(), vec![], vec![], vec![false; servers]);
        let state = Mutex::new(State { tick: 0, seed, weather, messages, parked, cuts, down });
        Arc::new(Self { state, recorder })
    }

    pub(super) fn cut(&self, slot: usize, server: usize, way: Way, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, ways: Ways::One(way), until, longer: None });
    }

    pub(super) fn slow(&self, slot: usize, server: usize, way: Way, longer: u64, until: u64) {
        let (ways, longer) = (Ways::One(way), Some(longer));
        self.state.lock().cuts.push(Cut { slot, server, ways, until, longer });
    }

    /// The connection of a process's follower is cut.
    pub(super) fn deafen(&self, slot: usize, server: usize, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, ways: Ways::Log, until, longer: None });
    }

    /// While a server is down, it refuses connections.
    pub(super) fn set_down(&self, server: usize, down: bool) {
        self.state.lock().down[server] = down;
        if down {
            self.restart(server);
        }
    }

    /// A server ends its connections.
    pub(super) fn restart(&self, server: usize) {
        let of_server = |parked: &mut Parked| parked.call.link.server == server;
        let ended: Vec<Parked> = self.state.lock().parked.extract_if(.., of_server).collect();
        for Parked { call, .. } in ended {
            let answer = call.refused();
            self.send(Way::Back, call, Some(answer));
        }
    }

    /// Whether a follower is told of an entry again.
    pub(super) fn repeats(&self, link: Link, stamp: u64) -> Repeat {
        let state = self.state.lock();
        let mut rng = Rng::with_seed(mixed(mixed(state.seed, stamp), link.slot as u64));
        match rng.u16(..1000) {
            chance if chance >= state.weather.twice => Repeat::No,
            _ if rng.bool() => Repeat::AtOnce,
            _ => Repeat::Later,
        }
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
                Message::Asked(call) => self.arrive(call),
                Message::Answered(call, answer) => call.settle(answer),
                Message::Pushed(Push { listener, token, ended }) => listener.herald.notify(token, ended),
            }
        }
        self.answer_parked(tick);
    }

    fn arrive(&self, call: Arc<Call>) {
        let down = self.state.lock().down[call.link.server];
        let answer = if down { Some(call.refused()) } else { call.carry_out(self) };
        match (answer, &call.ask) {
            (None, Ask::Follow(log, _)) => {
                let head = log.head();
                let mut state = self.state.lock();
                let until = state.tick + HELD_BACK;
                state.parked.push(Parked { call, head, until });
            }
            (answer, _) => self.send(Way::Back, call, answer),
        }
    }

    fn answer_parked(&self, tick: u64) {
        let due = |parked: &mut Parked| match &parked.call.ask {
            Ask::Follow(log, cursor) => parked.until <= tick || log.goes_on_behind(cursor),
            _ => true,
        };
        let due: Vec<Parked> = self.state.lock().parked.extract_if(.., due).collect();
        for Parked { call, head, .. } in due {
            let Ask::Follow(log, cursor) = &call.ask else { continue };
            let answer = Answer::Read(Ok(log.read(head, cursor)));
            self.send(Way::Back, call, Some(answer));
        }
    }

    pub(super) fn send(&self, way: Way, call: Arc<Call>, answer: Option<Answer>) {
        let (link, name, of_log) = (call.link, call.ask.name(), call.ask.is_of_log());
        let message = match answer {
            Some(answer) => Message::Answered(call, answer),
            None => Message::Asked(call),
        };
        self.post(link, way, name, of_log, message);
    }

    /// Tells a process something that it has not asked: maybe twice.
    pub(super) fn push(&self, push: Push) {
        self.recorder.count(|counts| counts.announced += 1);
        let (link, number) = (push.listener.link, push.token.as_u64());
        if self.repeats(link, number) != Repeat::No {
            self.post(link, Way::Back, mixed(number, 1), false, Message::Pushed(push.clone()));
        }
        self.post(link, Way::Back, number, false, Message::Pushed(push));
    }

    fn post(&self, link: Link, way: Way, name: u64, of_log: bool, message: Message) {
        let mut state = self.state.lock();
        match state.delay(link, way, name, of_log) {
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
    fn delay(&self, link: Link, way: Way, name: u64, of_log: bool) -> Option<u64> {
        let tick = self.tick;
        let cut = |cut: &&Cut| {
            let concerned = cut.ways == Ways::One(way) || (cut.ways == Ways::Log && of_log);
            concerned && cut.slot == link.slot && cut.server == link.server && tick < cut.until
        };
        let mut longer = 0;
        for cut in self.cuts.iter().filter(cut) {
            longer += cut.longer?;
        }
        let Weather { lost, stuck, slow, .. } = self.weather;
        let place = (link.slot * 16 + link.server) as u64 * 2 + u64::from(way == Way::Back);
        let mut rng = Rng::with_seed([place, name, tick].into_iter().fold(self.seed, mixed));
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

//! The network between processes and servers: it delays, reorders and loses messages by the plan.

mod call;

use std::{collections::BTreeMap, sync::Arc};

use fastrand::Rng;
use parking_lot::Mutex;

use self::call::Call;
use crate::{
    message::{Link, Push, Request, Response, log::Head},
    plan::{Way, Weather},
    recorder::Recorder,
    server::{Execution, Server},
};

/// All messages on their way.
pub(crate) struct Network {
    state: Mutex<State>,
    servers: Vec<Arc<Server>>,
    pub(crate) recorder: Arc<Recorder>,
}

struct State {
    tick: u64,
    seed: u64,
    weather: Weather,
    /// The messages under way, by the millisecond in which they arrive.
    messages: BTreeMap<u64, Vec<Message>>,
    /// Requests of followers whose responses are held back.
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

/// Which messages a cut concerns.
#[derive(PartialEq, Eq)]
enum Ways {
    /// All messages in one direction.
    One(Way),
    /// The messages of the follower's connection, in both directions.
    Log,
}

/// Whether an entry of a log is reported twice.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Repeat {
    No,
    AtOnce,
    /// With the entries that come next.
    Later,
}

enum Message {
    Request(Arc<Call>),
    Response(Arc<Call>, Response),
    Push(Push),
}

struct Parked {
    call: Arc<Call>,
    /// The log's head when the request came.
    head: Head,
    until: u64,
}

/// How long a server holds a response back while nothing is appended, in milliseconds.
const HELD_BACK: u64 = 100;

impl Network {
    pub(crate) fn new(
        seed: u64,
        weather: Weather,
        servers: Vec<Arc<Server>>,
        recorder: Arc<Recorder>,
    ) -> Arc<Self> {
        let (messages, parked, cuts, down) = (BTreeMap::new(), vec![], vec![], vec![false; servers.len()]);
        let state = Mutex::new(State { tick: 0, seed, weather, messages, parked, cuts, down });
        Arc::new(Self { state, servers, recorder })
    }

    /// Sends a request and waits for the response; for ever, where a message is lost.
    pub(crate) async fn ask(&self, link: Link, request: Request) -> Response {
        let (call, caller) = Call::new(link, request);
        self.send(Way::There, call, None);
        caller.response().await
    }

    pub(crate) fn cut(&self, slot: usize, server: usize, way: Way, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, ways: Ways::One(way), until, longer: None });
    }

    pub(crate) fn slow(&self, slot: usize, server: usize, way: Way, longer: u64, until: u64) {
        let (ways, longer) = (Ways::One(way), Some(longer));
        self.state.lock().cuts.push(Cut { slot, server, ways, until, longer });
    }

    /// Cuts the connection of a process's follower.
    pub(crate) fn cut_log(&self, slot: usize, server: usize, until: u64) {
        self.state.lock().cuts.push(Cut { slot, server, ways: Ways::Log, until, longer: None });
    }

    /// Makes a server refuse connections, or accept them again.
    pub(crate) fn set_down(&self, server: usize, down: bool) {
        self.state.lock().down[server] = down;
        if down {
            self.restart(server);
        }
    }

    /// Ends the connections of a server.
    pub(crate) fn restart(&self, server: usize) {
        let of_server = |parked: &mut Parked| parked.call.link.server == server;
        let ended: Vec<Parked> = self.state.lock().parked.extract_if(.., of_server).collect();
        for Parked { call, .. } in ended {
            let refused = call.request.refused();
            self.send(Way::Back, call, Some(refused));
        }
    }

    /// Whether an entry is reported to a follower twice.
    pub(crate) fn repeats(&self, link: Link, stamp: u64) -> Repeat {
        let state = self.state.lock();
        let mut rng = Rng::with_seed(mixed(mixed(state.seed, stamp), link.slot as u64));
        match rng.u16(..1000) {
            chance if chance >= state.weather.twice => Repeat::No,
            _ if rng.bool() => Repeat::AtOnce,
            _ => Repeat::Later,
        }
    }

    /// Ends all faults: from now on every message arrives in a millisecond.
    pub(crate) fn heal(&self) {
        let mut state = self.state.lock();
        state.weather = Weather::FAIR;
        state.cuts.clear();
        state.down.iter_mut().for_each(|down| *down = false);
    }

    /// Delivers the messages that arrive in this millisecond.
    pub(crate) fn deliver(&self, tick: u64) {
        let arrived = {
            let mut state = self.state.lock();
            state.tick = tick;
            state.cuts.retain(|cut| tick < cut.until);
            state.messages.remove(&tick).unwrap_or_default()
        };
        for message in arrived {
            match message {
                Message::Request(call) => self.arrive(call),
                Message::Response(call, response) => call.settle(response),
                Message::Push(Push { listener, token, end }) => (listener.notify)(token, end),
            }
        }
        self.respond_to_parked(tick);
    }

    fn arrive(&self, call: Arc<Call>) {
        let link = call.link;
        if self.state.lock().down[link.server] {
            let refused = call.request.refused();
            return self.send(Way::Back, call, Some(refused));
        }
        let server = &self.servers[link.server];
        let (late, recorder, pushes) = (call.is_abandoned(), &*self.recorder, Vec::new());
        let mut run = Execution { link, late, recorder, pushes };
        let response = server.carry_out(&call.request, &mut run);
        run.pushes.into_iter().for_each(|push| self.push(push));
        if response.is_some() {
            return self.send(Way::Back, call, response);
        }
        let head = server.log.head();
        let mut state = self.state.lock();
        let until = state.tick + HELD_BACK;
        state.parked.push(Parked { call, head, until });
    }

    fn respond_to_parked(&self, tick: u64) {
        let log_of = |call: &Call| &self.servers[call.link.server].log;
        let due = |parked: &mut Parked| match &parked.call.request {
            Request::Follow(cursor) => {
                parked.until <= tick || log_of(&parked.call).has_entries_behind(cursor)
            }
            _ => true,
        };
        let due: Vec<Parked> = self.state.lock().parked.extract_if(.., due).collect();
        for Parked { call, head, .. } in due {
            let Request::Follow(cursor) = &call.request else { continue };
            let read = Response::Read(Ok(log_of(&call).read(head, cursor)));
            self.send(Way::Back, call, Some(read));
        }
    }

    fn send(&self, way: Way, call: Arc<Call>, response: Option<Response>) {
        let (link, number, of_log) = (call.link, call.request.number(), call.request.is_of_log());
        let message = match response {
            Some(response) => Message::Response(call, response),
            None => Message::Request(call),
        };
        self.post(link, way, number, of_log, message);
    }

    /// Sends a message that no process has asked for, maybe twice.
    fn push(&self, push: Push) {
        self.recorder.count(|counts| counts.announced += 1);
        let (link, number) = (push.listener.link, push.token.as_u64());
        if self.repeats(link, number) != Repeat::No {
            self.post(link, Way::Back, mixed(number, 1), false, Message::Push(push.clone()));
        }
        self.post(link, Way::Back, number, false, Message::Push(push));
    }

    fn post(&self, link: Link, way: Way, number: u64, of_log: bool, message: Message) {
        let mut state = self.state.lock();
        match state.delay(link, way, number, of_log) {
            Some(delay) => {
                let due = state.tick + delay;
                state.messages.entry(due).or_default().push(message);
            }
            None => self.recorder.count(|counts| counts.lost += 1),
        }
    }
}

impl State {
    /// How many milliseconds a message takes; `None` loses it. This depends on the message alone, so that a
    /// plan with fewer steps delays the messages of the other steps as before.
    fn delay(&self, link: Link, way: Way, number: u64, of_log: bool) -> Option<u64> {
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
        let mut rng = Rng::with_seed([place, number, tick].into_iter().fold(self.seed, mixed));
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

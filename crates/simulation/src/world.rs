//! Processes, servers and time: one thread steps them through a plan, millisecond by millisecond.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use terrace_conformance::{Fake, PlainNear, Saved};
use terrace_core::{Backend, Builder, Level, Result, TierSettings};
use terrace_tier::{Clock, ManualClock, Namespace, Op, Role, TierKey, Watermark};
use tokio::{
    runtime::Runtime,
    time::{Instant, advance, sleep_until},
};

use crate::{
    encoding,
    history::{At, End, Fact, History, Process, Truth, Wish},
    limits::{LOAD, SHORT_LOAD},
    message::{Link, Target},
    network::Network,
    parts::{Links, Parts, Returns},
    plan::{Plan, Step, Trouble},
    process::{
        client::{Client, SimulatedCache},
        follow::Followers,
        leases::RemoteLeases,
        policies::{Lives, Picky, Shares},
        tier::Remote,
    },
    recorder::{Recorder, Tally},
    server::{LeaseDesk, LeaseTable, LogSettings, Logbook, Server, Stream},
    witness,
};

/// How long a run goes on after its faults, in milliseconds: pending invalidations are repaired, and lost
/// tiers are found again.
const AFTERWARDS: u64 = 1_500;

/// Longer than any call may take, in milliseconds.
const ENDLESS: u64 = 20_000;

/// How long a near copy may be trusted after the last heartbeat of the log.
const DISTRUST: Duration = Duration::from_secs(1);

/// The budget of a store: so short that it runs out within a plan of a second.
const STORE_BUDGET: Duration = Duration::from_millis(150);

pub(crate) struct World<'a> {
    plan: &'a Plan,
    tick: u64,
    clock: ManualClock,
    recorder: Arc<Recorder>,
    network: Arc<Network>,
    servers: Vec<Host>,
    slots: Vec<Slot>,
    lives: Process,
    links: Links,
    returns: Returns,
    forgets: bool,
}

/// A server, and what happens to it.
struct Host {
    server: Arc<Server>,
    saved: Option<(Saved, Stream, LeaseTable)>,
    up_again: Option<u64>,
}

/// The slot of a process that is alive, paused, or dead for a while.
struct Slot {
    instance: Option<Instance>,
    /// When the process continues, or is started again.
    until: u64,
}

/// A process from its start to its death: a runtime with its own clock, which stops while it is paused.
struct Instance {
    // The cache is dropped with the tasks of its runtime, or after them.
    runtime: Runtime,
    client: Arc<Client>,
    began: Instant,
    /// The millisecond in which its clock began, and the millisecond that the clock has reached.
    first: u64,
    reached: u64,
}

impl<'a> World<'a> {
    /// A world with these parts.
    pub(crate) fn new(plan: &'a Plan, Parts { rules, links, returns, forgets }: Parts) -> Self {
        // Core draws its tokens, epochs and chances from the thread's generator.
        fastrand::seed(plan.seed);
        let truth = if plan.stack.store { Truth::Store } else { Truth::Origin };
        let follows = plan.stack.log && plan.stack.level == Level::Fenced;
        let distrust = follows.then_some(DISTRUST);
        let calm_from = At(plan.calm_from.unwrap_or(plan.length + AFTERWARDS) * 1_000_000);
        let history = History { truth, tiers: plan.stack.tiers, distrust, calm_from, ..History::default() };
        let recorder = Arc::new(Recorder::new(history, plan.keys));
        let clock = Clock::manual();
        let server = |number: usize| {
            let name = if number < plan.stack.tiers { format!("tier{number}") } else { "store".to_owned() };
            let hooks = rules();
            let reported = hooks.reported;
            let fake = Fake::with_hooks(&name, clock.clock(), hooks);
            // Near tiers follow the log of the nearest server.
            let (nearest, store) = (number == 0, number == plan.stack.tiers);
            let kept = (plan.stack.log && nearest) || (plan.stack.outbox && store);
            let fake = if kept { fake.with_log() } else { fake };
            let complete = plan.stack.tiers < 2;
            let believes = returns == Returns::Believed;
            let settings = LogSettings { reported, kept, complete, believes };
            let log = Logbook::new(fake.clone(), number, settings);
            Arc::new(Server { fake, log, leases: LeaseDesk::default() })
        };
        let all: Vec<Arc<Server>> = (0..plan.stack.servers()).map(server).collect();
        let host = |server: &Arc<Server>| Host { server: Arc::clone(server), saved: None, up_again: None };
        let servers = all.iter().map(host).collect();
        let network = Network::new(plan.seed, plan.weather, all, Arc::clone(&recorder));
        let slots = (0..plan.processes).map(|_| Slot { instance: None, until: 0 }).collect();
        Self { plan, tick: 0, clock, recorder, network, servers, slots, lives: 0, links, returns, forgets }
    }

    pub(crate) fn run(mut self) -> Result<(History, Tally)> {
        if !self.plan.stack.store {
            (0..self.plan.keys).for_each(|key| _ = self.recorder.change_origin(key, true));
        }
        let (mut steps, mut faults) = (self.plan.steps.iter().peekable(), self.plan.faults.iter().peekable());
        let mut acts: Vec<Vec<Step>> = vec![Vec::new(); self.plan.processes];
        for tick in 0..self.plan.length {
            self.recorder.begin(tick);
            while let Some(fault) = faults.next_if(|fault| fault.at <= tick) {
                self.inject(fault.what);
            }
            while let Some(step) = steps.next_if(|step| step.at <= tick) {
                acts[step.slot].push(*step);
            }
            self.pass(&mut acts)?;
        }
        self.network.heal();
        for slot in &mut self.slots {
            slot.until = slot.until.min(self.tick);
        }
        for _ in 0..AFTERWARDS {
            self.recorder.begin(self.tick);
            self.pass(&mut acts)?;
        }
        self.read_all()?;
        self.await_calls(&mut acts)?;
        drop(self.slots);
        Ok(self.recorder.take())
    }

    /// Runs everything for one millisecond.
    fn pass(&mut self, acts: &mut [Vec<Step>]) -> Result<()> {
        let tick = self.tick;
        for (number, host) in self.servers.iter_mut().enumerate() {
            if host.up_again.take_if(|up| *up <= tick).is_some() {
                self.network.set_down(number, false);
            }
        }
        self.network.deliver(tick);
        for (slot, acts) in acts.iter_mut().enumerate() {
            if self.slots[slot].until > tick {
                acts.clear();
                continue;
            }
            if self.slots[slot].instance.is_none() {
                self.slots[slot].instance = Some(self.start(slot)?);
            }
            if let Some(instance) = &mut self.slots[slot].instance {
                instance.pass(tick, acts.drain(..));
            }
        }
        self.tick += 1;
        self.clock.advance(Duration::from_millis(1));
        Ok(())
    }

    fn read_all(&mut self) -> Result<()> {
        for slot in 0..self.slots.len() {
            let Some(instance) = &self.slots[slot].instance else { continue };
            let reading = instance.runtime.spawn(Arc::clone(&instance.client).read_all());
            while !reading.is_finished() {
                self.recorder.begin(self.tick);
                self.pass(&mut vec![Vec::new(); self.plan.processes])?;
            }
        }
        Ok(())
    }

    /// Runs until every call has returned, or for too long.
    fn await_calls(&mut self, acts: &mut [Vec<Step>]) -> Result<()> {
        let until = self.tick + ENDLESS;
        while self.open_calls().next().is_some() && self.tick < until {
            self.recorder.begin(self.tick);
            self.pass(acts)?;
        }
        self.open_calls().for_each(|key| self.recorder.endless(key));
        Ok(())
    }

    fn open_calls(&self) -> impl Iterator<Item = u64> {
        let clients = self.slots.iter().filter_map(|slot| Some(&slot.instance.as_ref()?.client));
        clients.flat_map(|client| client.open.lock().values().copied().collect::<Vec<_>>())
    }

    fn inject(&mut self, trouble: Trouble) {
        self.recorder.count(|counts| counts.faults += 1);
        let tick = self.tick;
        match trouble {
            Trouble::Pause(slot, millis) => {
                let slot = &mut self.slots[slot];
                slot.until = slot.until.max(tick + millis);
            }
            Trouble::Crash(slot, millis) => {
                let slot = &mut self.slots[slot];
                slot.instance = None;
                slot.until = tick + millis;
            }
            Trouble::Cut(slot, server, way, millis) => self.network.cut(slot, server, way, tick + millis),
            Trouble::Slow(slot, server, way, longer, millis) => {
                self.network.slow(slot, server, way, longer, tick + millis);
            }
            Trouble::Down(server, millis) => {
                self.network.set_down(server, true);
                self.servers[server].up_again = Some(tick + millis);
            }
            Trouble::Evict(tier, key) => {
                self.servers[tier].server.fake.evict(NAMESPACE, &key.to_be_bytes());
            }
            Trouble::Flush(tier) => {
                let server = &self.servers[tier].server;
                server.fake.lose_everything();
                server.log.go_back(&Stream::default());
                server.leases.go_back(&LeaseTable::default());
            }
            Trouble::Save(tier) => {
                let Host { server, saved, .. } = &mut self.servers[tier];
                *saved = Some((server.fake.save(), server.log.save(), server.leases.save()));
            }
            Trouble::GoBack(tier) => {
                let Host { server, saved, .. } = &self.servers[tier];
                if let Some((saved, log, leases)) = saved {
                    match self.returns {
                        Returns::WithoutWatermark => server.fake.go_back_but_for(saved, &watermarks().name),
                        Returns::True | Returns::Believed => server.fake.go_back(saved),
                    }
                    server.log.go_back(log);
                    server.leases.go_back(leases);
                    self.network.restart(tier);
                    self.recorder.fact(Fact::WentBack);
                }
            }
            Trouble::CutLog(slot, server, millis) => self.network.cut_log(slot, server, tick + millis),
            Trouble::Foreign(key) => self.remove(key),
            Trouble::LoseWatermark(tier) => {
                let watermark = Watermark::key(NAMESPACE);
                self.servers[tier].server.fake.evict(&watermarks().name, &watermark.bytes);
            }
            Trouble::ClockBehind(tier, millis) => {
                self.servers[tier].server.fake.set_clock_behind(Duration::from_millis(millis));
            }
            Trouble::Trim(server) => self.servers[server].server.log.trim(),
        }
    }

    /// Deletes a record as another program does.
    fn remove(&self, key: u64) {
        let Some(Host { server: store, .. }) = self.servers.get(self.plan.stack.tiers) else { return };
        let namespace = namespace(Role::Store).with_level(self.plan.stack.level);
        let Ok(tier) = store.fake.another_handle().open(&namespace) else { return };
        let (bytes, op) = (key.to_be_bytes().to_vec(), Op::Remove { tombstone_ttl: Duration::from_secs(60) });
        let key = TierKey { bytes: bytes.into(), digest: [0; 16] };
        let write = self.recorder.writes(0, Some(encoding::key_of(&key)), Wish::Remove);
        let reply = tier.apply(&key, op.clone()).now_or_never();
        let Some(Ok(reply)) = reply else { return };
        let (server, role) = (self.plan.stack.tiers, Role::Store);
        let link = Link { slot: 0, process: 0, server, role, authority: true, stored: true, fussy: false };
        witness::carried_out(&self.recorder, link, false, &key, &op, &Ok(reply.clone()));
        let target = Target { tier, namespace: Arc::new(namespace), origin: 0 };
        store.log.append(&target, link, &key, &op, &reply, &self.recorder);
        self.recorder.wrote(write, End::Done);
    }

    fn start(&mut self, slot: usize) -> Result<Instance> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.map_err(|error| {
            terrace_core::Error::new(terrace_core::ErrorKind::Backend, "no runtime").with_source(error)
        })?;
        self.lives += 1;
        let (process, stack) = (self.lives, self.plan.stack);
        let near = if stack.near { PlainNear::new() } else { terrace_core::near::Near::off() };
        let cache = {
            let _inside = runtime.enter();
            self.build(slot, process, near.clone())?
        };
        let busy = (0..self.plan.keys).map(|_| false.into()).collect();
        let client = Client {
            process,
            slot,
            processes: self.plan.processes,
            keys: self.plan.keys,
            stack,
            cache,
            near,
            recorder: Arc::clone(&self.recorder),
            busy,
            awake: AtomicU64::new(0),
            open: Mutex::default(),
        };
        let began = runtime.block_on(async { Instant::now() });
        Ok(Instance { runtime, client: Arc::new(client), began, first: self.tick, reached: self.tick })
    }

    fn build(&self, slot: usize, process: Process, near: PlainNear) -> Result<SimulatedCache> {
        let stack = self.plan.stack;
        let mut builder = Builder::new(NAMESPACE.to_owned(), near)
            .clock(&self.clock)
            .level(stack.level)
            .expire(Lives(stack))
            .freshness(stack.freshness)
            .stampede(Shares(stack.stampede))
            .load_deadline(if stack.waits() { LOAD } else { SHORT_LOAD });
        if let Some(life) = stack.near_life {
            builder = builder.near_ttl(life);
        }
        if stack.picky {
            builder = builder.admit(Picky);
        }
        for (number, Host { server, .. }) in self.servers.iter().enumerate() {
            let role = if number < stack.tiers { Role::Cache } else { Role::Store };
            let authority = number + 1 == self.servers.len();
            let fussy = stack.fussy && number == 0 && role == Role::Cache;
            let stored = stack.store;
            let link = Link { slot, process, server: number, role, authority, stored, fussy };
            let handle = server.fake.another_handle();
            let followers = Followers::new(Arc::clone(&self.network), link, handle.clone(), self.forgets);
            let backend: Arc<dyn Backend> = Arc::new(handle);
            let (leases, logged) = (RemoteLeases::tracker(&self.network, link), server.log.is_kept());
            let remote = Remote { followers, server: backend, links: self.links, leases, logged };
            builder = match role {
                Role::Cache => builder.tier(remote),
                Role::Store => builder.store(remote.budget(STORE_BUDGET)),
            };
        }
        builder.build()
    }
}

const NAMESPACE: &str = "sim";

fn namespace(role: Role) -> Namespace {
    let (namespace, level) = (NAMESPACE.to_owned(), Level::Fenced);
    Namespace::new(namespace, role).with_level(level).with_budget(STORE_BUDGET)
}

/// The namespace of the relays' watermarks.
fn watermarks() -> Namespace {
    Watermark::namespace(&namespace(Role::Cache))
}

impl Instance {
    /// Runs everything that is ready in this millisecond, beginning with `acts`.
    fn pass(&mut self, tick: u64, acts: impl Iterator<Item = Step>) {
        let behind = tick - self.reached;
        let next = self.began + Duration::from_millis(tick + 1 - self.first);
        let client = &self.client;
        client.awake.fetch_add(1, Ordering::Relaxed);
        self.runtime.block_on(async {
            if behind > 0 {
                // The clock jumps, as after SIGCONT: timers that were due meanwhile fire late.
                advance(Duration::from_millis(behind)).await;
            }
            for Step { act, level, .. } in acts {
                tokio::spawn(Arc::clone(client).act(act, level));
            }
            // The clock moves by itself once no task is ready.
            sleep_until(next).await;
        });
        self.reached = tick + 1;
    }
}

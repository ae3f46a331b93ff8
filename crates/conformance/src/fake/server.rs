//! The server of a fake: what it keeps, and what it does.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{
    Cell, Change, Clock, Epoch, Error, ErrorKind, Level, Moment, Namespace, NamespaceGuard,
    NamespaceRegistry, Op, Reply, Result, Role, TierKey, Token, Version, transition,
};
use tokio::sync::watch;

use super::{
    log::{FakeLog, told_version},
    process::Signs,
};
use crate::calls::Counters;

/// How the fake's parts work; tests of the suite put broken ones in.
#[doc(hidden)]
pub struct Hooks {
    pub transition: fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply),
    pub address: fn(&Namespace, &TierKey) -> Address,
    pub clear: fn(&mut Data, &Namespace),
    pub batch: fn(Vec<Result<Reply>>) -> Vec<Result<Reply>>,
    pub told: fn(&Op, &Reply) -> Option<Option<Version>>,
    /// Whether a publication whose mark is not as expected is refused.
    pub refuses: bool,
}

/// Where a cell is: namespace, tenant, key.
pub type Address = (String, Option<String>, Bytes);

/// What the server keeps.
#[derive(Clone, Default)]
#[doc(hidden)]
pub struct Data {
    pub(crate) cells: HashMap<Address, Cell>,
    pub(crate) epochs: HashMap<(String, Option<String>), Epoch>,
}

pub(crate) struct Server {
    pub(super) name: String,
    pub(crate) clock: Clock,
    pub(crate) hooks: Hooks,
    pub(crate) data: Mutex<Data>,
    pub(crate) signs: Mutex<Signs>,
    /// The terms that all handles agreed on in `ready`, schema by schema.
    pub(super) agreed: NamespaceRegistry,
    /// The newest schema of each namespace: whoever has an older one is refused.
    pub(super) schemas: Mutex<HashMap<String, u32>>,
    pub(super) down: AtomicBool,
    pub(super) latency: Mutex<Duration>,
    pub(super) hanging: watch::Sender<bool>,
    pub(crate) counters: Counters,
    pub(crate) log: FakeLog,
    pub(super) logged: AtomicBool,
}

impl Server {
    pub(super) fn new(name: &str, clock: Clock, hooks: Hooks) -> Self {
        Self {
            name: name.to_owned(),
            clock,
            hooks,
            data: Mutex::default(),
            signs: Mutex::default(),
            agreed: NamespaceRegistry::default(),
            schemas: Mutex::default(),
            down: AtomicBool::new(false),
            latency: Mutex::default(),
            hanging: watch::Sender::new(false),
            counters: Counters::default(),
            log: FakeLog::default(),
            logged: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_log(&self, space: &Namespace) -> bool {
        self.logged.load(Ordering::SeqCst) && space.level != Level::Ttl
    }

    /// Whether the cell there is live and holds this token.
    pub(crate) fn is_leased(&self, data: &Data, place: &Address, token: Token) -> bool {
        let (namespace, tenant, _) = place;
        let epoch = data.epochs.get(&(namespace.clone(), tenant.clone()));
        data.cells.get(place).is_some_and(|cell| {
            epoch == Some(&cell.epoch) && !cell.deadlines.is_expired(self.clock.now()) && cell.token == token
        })
    }

    /// One operation on one key, and its entry in the log.
    pub(crate) fn step(
        &self,
        data: &mut Data,
        space: &Namespace,
        origin: u64,
        key: &TierKey,
        op: &Op,
    ) -> Reply {
        let address = (self.hooks.address)(space, key);
        let epoch = match space.role {
            Role::Cache => *data.epochs.entry(scope(space)).or_insert_with(Epoch::random),
            Role::Store => Epoch::default(),
        };
        let clock = &self.clock;
        let moment = Moment { role: space.role, now: clock.now(), micros: clock.micros(), epoch };
        let (change, reply) = (self.hooks.transition)(data.cells.get(&address), op, &moment);
        if let Change::Write(cell) = change {
            data.cells.insert(address, cell);
        }
        if self.has_log(space)
            && let Some(version) = (self.hooks.told)(op, &reply)
        {
            self.log.append(origin, space, key, version);
        }
        reply
    }

    /// Agrees on the terms of a namespace: a higher schema takes it over.
    pub(super) fn agree(&self, space: &Namespace) -> Result<NamespaceGuard> {
        let mut schemas = self.schemas.lock();
        let newest = schemas.entry(space.name.clone()).or_insert(space.schema);
        if space.schema < *newest {
            let message = format!("the namespace `{}` has schema {newest} by now", space.name);
            return Err(Error::new(ErrorKind::NamespaceInUse, message));
        }
        *newest = space.schema;
        let namespace = format!("{}, schema {newest}", space.name);
        self.agreed.claim(&space.clone().with_name(namespace))
    }

    /// What a call goes through before it is carried out.
    pub(crate) async fn trip(&self) -> Result<()> {
        let latency = *self.latency.lock();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if *self.hanging.borrow() {
            // The sender lives as long as this call, so the wait ends with the hanging alone.
            let _ = self.hanging.subscribe().wait_for(|hanging| !hanging).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the fake was set down").at_tier(&self.name));
        }
        Ok(())
    }
}

impl Hooks {
    /// What the contract says.
    #[doc(hidden)]
    pub const TRUE: Self = Self {
        transition,
        address: |space, key| (space.name.clone(), space.tenant.clone(), key.bytes.clone()),
        clear: |data, space| {
            let is_meant = |tenant: &Option<String>| space.tenant.is_none() || *tenant == space.tenant;
            data.epochs.retain(|(namespace, tenant), _| *namespace != space.name || !is_meant(tenant));
        },
        batch: |replies| replies,
        told: told_version,
        refuses: true,
    };
}

impl Default for Hooks {
    fn default() -> Self {
        Self::TRUE
    }
}

fn scope(space: &Namespace) -> (String, Option<String>) {
    (space.name.clone(), space.tenant.clone())
}

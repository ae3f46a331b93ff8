//! The server of a fake: its data and its operations.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{
    Cell, Change, Clock, Epoch, Error, ErrorKind, FrontRow, Level, Moment, Namespace, NamespaceGuard,
    NamespaceRegistry, Op, Order, Reply, Result, Role, TierKey, Token, Version, transition,
};
use tokio::sync::watch;

use super::{
    epochs::scope,
    keep_alives::KeepAlives,
    log::{FakeLog, reported_version},
};
use crate::calls::Counters;

/// The replaceable parts of a fake. The tests of the suite replace one with a broken one.
#[doc(hidden)]
pub struct Hooks {
    pub transition: fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply),
    pub address: fn(&Namespace, &TierKey) -> Address,
    pub clear: fn(&mut Data, &Namespace),
    pub batch: fn(Vec<Result<Reply>>) -> Vec<Result<Reply>>,
    /// The version that the log reports for an operation.
    pub reported: fn(&Op, &Reply) -> Option<Option<Version>>,
    /// Whether a handle forgets the epochs that it knows before its log reports a clear.
    pub forgets: bool,
    /// Whether an issued version is above those that were issued before for cells that are gone.
    pub issues_above: bool,
    /// Whether a publication is refused where the watermark does not have the expected version.
    pub refuses: bool,
}

/// The address of a cell: namespace, tenant, key.
pub type Address = (String, Option<String>, Bytes);

/// The data of the server.
#[derive(Clone, Default)]
#[doc(hidden)]
pub struct Data {
    pub(crate) cells: HashMap<Address, Cell>,
    pub(crate) epochs: HashMap<(String, Option<String>), Epoch>,
    /// The highest version that was issued in each namespace.
    pub(super) issued: HashMap<String, Version>,
    /// The write-behind front of each namespace.
    pub(super) fronts: HashMap<String, FrontRow>,
}

pub(crate) struct Server {
    pub(super) name: String,
    pub(crate) clock: Clock,
    pub(crate) hooks: Hooks,
    pub(crate) data: Mutex<Data>,
    pub(crate) keep_alives: Mutex<KeepAlives>,
    /// The options that all handles agreed on in `ready`, for each namespace.
    pub(super) agreed: NamespaceRegistry,
    pub(super) down: AtomicBool,
    pub(super) latency: Mutex<Duration>,
    pub(super) clock_behind: Mutex<Duration>,
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
            keep_alives: Mutex::default(),
            agreed: NamespaceRegistry::default(),
            down: AtomicBool::new(false),
            latency: Mutex::default(),
            clock_behind: Mutex::default(),
            hanging: watch::Sender::new(false),
            counters: Counters::default(),
            log: FakeLog::default(),
            logged: AtomicBool::new(false),
        }
    }

    pub(crate) fn has_log(&self, namespace: &Namespace) -> bool {
        self.logged.load(Ordering::SeqCst) && namespace.level != Level::Ttl
    }

    /// Whether the cell at `address` is alive and has this token.
    pub(crate) fn is_leased(&self, data: &Data, address: &Address, token: Token) -> bool {
        let (namespace, tenant, _) = address;
        let epoch = data.epochs.get(&(namespace.clone(), tenant.clone()));
        data.cells.get(address).is_some_and(|cell| {
            epoch == Some(&cell.epoch) && !cell.deadlines.is_expired(self.clock.now()) && cell.token == token
        })
    }

    /// Carries out one operation on one key and appends it to the log.
    pub(crate) fn step(
        &self,
        data: &mut Data,
        namespace: &Namespace,
        origin: u64,
        key: &TierKey,
        op: &Op,
    ) -> Reply {
        let address = (self.hooks.address)(namespace, key);
        let epoch = match namespace.role {
            Role::Cache => *data.epochs.entry(scope(namespace)).or_insert_with(Epoch::random),
            Role::Store => Epoch::default(),
        };
        let micros = self.version_clock(data, namespace, op);
        let moment = Moment::new(namespace.role, self.clock.now(), micros, epoch);
        let (change, reply) = (self.hooks.transition)(data.cells.get(&address), op, &moment);
        if let Change::Write(cell) = change {
            data.cells.insert(address, cell);
        }
        if let (true, Reply::Kept(version) | Reply::Done { version, .. }) = (issues_version(op), &reply) {
            data.issued.insert(namespace.name.clone(), *version);
        }
        if self.has_log(namespace)
            && let Some(version) = (self.hooks.reported)(op, &reply)
        {
            self.log.append(origin, namespace, key, version);
        }
        reply
    }

    /// The microseconds from which the server makes a version. An issued version is above all that were issued
    /// before in the namespace, although the clock may be behind and the cell gone.
    fn version_clock(&self, data: &Data, namespace: &Namespace, op: &Op) -> u64 {
        let behind = u64::try_from(self.clock_behind.lock().as_micros()).unwrap_or(u64::MAX);
        let micros = self.clock.micros().saturating_sub(behind);
        match data.issued.get(&namespace.name) {
            Some(issued) if issues_version(op) && self.hooks.issues_above => micros.max(issued.as_u64() + 1),
            _ => micros,
        }
    }

    /// Agrees with the other handles on the options of a namespace.
    pub(super) fn agree(&self, namespace: &Namespace) -> Result<NamespaceGuard> {
        self.agreed.claim(namespace)
    }

    /// Delays or fails a call before it is carried out, as the test has set the server.
    pub(crate) async fn trip(&self) -> Result<()> {
        let latency = *self.latency.lock();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if *self.hanging.borrow() {
            // The sender lives as long as this call, so the wait ends only when the server goes on.
            let _ = self.hanging.subscribe().wait_for(|hanging| !hanging).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the fake was set down").at_tier(&self.name));
        }
        Ok(())
    }
}

/// Whether the tier decides the version of the change.
fn issues_version(op: &Op) -> bool {
    matches!(op, Op::Put { order: Order::Author(_), .. } | Op::Remove { .. })
}

impl Hooks {
    /// The parts as the contract demands them.
    #[doc(hidden)]
    pub const TRUE: Self = Self {
        transition,
        address: |namespace, key| (namespace.name.clone(), namespace.tenant.clone(), key.bytes.clone()),
        clear: |data, namespace| {
            let is_meant =
                |tenant: &Option<String>| namespace.tenant.is_none() || *tenant == namespace.tenant;
            data.epochs.retain(|(name, tenant), _| *name != namespace.name || !is_meant(tenant));
        },
        batch: |replies| replies,
        reported: reported_version,
        forgets: true,
        issues_above: true,
        refuses: true,
    };
}

impl Default for Hooks {
    fn default() -> Self {
        Self::TRUE
    }
}

//! The tier of one namespace.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{
    Batcher, Cell, Clock, Error, ErrorKind, Fence, Follower, InvalidationLog, LeaseWaiter, Level, Namespace,
    Op, Order, Publish, Reply, Result, State, Stored, Tier, TierKey, Token, Version, lease::LeaseTracker,
};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect, NAME, error},
    leases::RedisLeases,
    link::{Link, within},
    log::{self, Log},
    reads::{Ask, Reads, Seen},
    reclaim,
    send::{self, Request},
    space::NamespaceState,
    write::{self, FOREVER_MILLIS},
};

/// A cache tier in Redis: cells under a namespace's keys, fenced by scripts.
pub(crate) struct RedisTier {
    pub(crate) space: Namespace,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) link: Arc<Link>,
    pub(crate) log: Arc<Log>,
    /// The follower that this tier's writes come from; zero for none.
    pub(crate) origin: AtomicU64,
    pub(crate) reads: Batcher<Reads>,
    pub(crate) inbox: LeaseTracker<RedisLeases>,
    pub(crate) max_value_bytes: usize,
}

/// What the read path says of a key.
pub(crate) enum Found {
    /// A live value or negative entry.
    Entry(Stored),
    Nothing,
    /// A cell of another epoch than the one heard before: one of the two is out of date. Not where the
    /// epoch came with the cell.
    Doubtful,
}

#[async_trait]
impl Tier for RedisTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let operation = op.name();
        let reply = match op {
            Op::Get => self.get(key).await,
            Op::Lease { .. } => self.lease(key, op).await,
            // A hit is what has to be small: the rooms of other ways are taken when they are gone.
            _ => Box::pin(self.write(key, op)).await,
        };
        reply.map_err(|error| located(error, operation))
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let operation = batch.first().map_or("get", |(_, op)| op.name());
        let deadline = Instant::now() + self.space.budget_for(batch.len());
        let replies = match batch.first() {
            Some((_, Op::Get | Op::Lease { .. })) => self.read_batch(batch, deadline).await,
            _ => {
                let told = |(key, op)| (self.state.layout.cell(&key), self.note(&key, &op), op);
                self.write_batch(batch.into_iter().map(told).collect(), deadline, Effect::Write).await
            }
        };
        replies.into_iter().map(|reply| reply.map_err(|error| located(error, operation))).collect()
    }

    async fn clear(&self) -> Result<()> {
        let call = write::clear(self.state.layout.cleared(), &self.log.keys, self.note_of(b""));
        let asked_at = Instant::now();
        let sent = send::run(&self.link, &call, Effect::Write);
        match within(asked_at + self.space.budget, Effect::Write, sent).await {
            Ok(Value::Okay) => {}
            Ok(Value::ServerError(answer)) => return Err(located(fault::of_server(&answer), "clear")),
            Ok(_) => return Err(located(fault::unreadable(), "clear")),
            Err(error) => return Err(located(error, "clear")),
        }
        for state in self.log.cleared(&self.space.name, std::slice::from_ref(&self.space.tenant)) {
            state.heard.forget();
            reclaim::start(&self.link, &state);
        }
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let sent = self.link.send(&ping, Effect::Read);
        match within(Instant::now() + self.space.budget, Effect::Read, sent).await {
            Ok(Value::ServerError(answer)) => Err(located(fault::of_server(&answer), "ping")),
            Ok(_) => Ok(()),
            Err(error) => Err(located(error, "ping")),
        }
    }

    async fn ready(&self) -> Result<()> {
        self.link.wait().await.map_err(|error| located(error, "ready"))?;
        self.register().await.map_err(|error| located(error, "ready"))?;
        *self.state.registered.lock() = Some(Instant::now());
        Ok(())
    }

    fn keeps_budget(&self) -> bool {
        true
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        Some(self)
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.space.level == Level::Ttl { None } else { Some(self) }
    }

    fn publish(&self) -> Option<&dyn Publish> {
        if self.space.level == Level::Ttl { None } else { Some(self) }
    }
}

impl InvalidationLog for RedisTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.origin.store(self.log.follow(namespace, follower), Ordering::Relaxed);
    }
}

impl RedisTier {
    async fn get(&self, key: &TierKey) -> Result<Reply> {
        let found = match self.look_up(key, false).await? {
            Found::Doubtful => Box::pin(self.look_up(key, true)).await?,
            found => found,
        };
        Ok(match found {
            Found::Entry(stored) => Reply::Hit(stored),
            Found::Nothing | Found::Doubtful => Reply::Miss(Fence::default()),
        })
    }

    /// A GET, and on a miss the script, within one budget.
    async fn lease(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let deadline = Instant::now() + self.space.budget;
        if let Found::Entry(stored) = self.look_up(key, false).await?
            && !is_asked_over(&op, stored.version)
        {
            return Ok(Reply::Hit(stored));
        }
        match self.plan_lease(self.state.layout.cell(key), op) {
            Plan::Answer(answer) => answer,
            Plan::Send(request) => {
                let sent = Box::pin(send::one(&self.link, &self.state, request, Effect::Read));
                within(deadline, Effect::Read, sent).await
            }
        }
    }

    async fn write(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match self.plan_write(self.state.layout.cell(key), self.note(key, &op), op) {
            Plan::Answer(answer) => answer,
            Plan::Send(request) => {
                let deadline = Instant::now() + self.space.budget;
                let sent = send::one(&self.link, &self.state, request, Effect::Write);
                within(deadline, Effect::Write, sent).await
            }
        }
    }

    async fn look_up(&self, key: &TierKey, ask_epoch: bool) -> Result<Found> {
        let ask_epoch = ask_epoch || !self.state.heard.is_fresh();
        if ask_epoch {
            self.renew_terms();
        }
        // A copy of another epoch is not certified, however fresh the hearing is.
        let ask = ask_epoch || self.state.layout.mark.is_some();
        let about = ask.then(|| Arc::clone(&self.state));
        let seen = self.reads.call(Ask { key: self.state.layout.cell(key), about }).await?;
        Ok(self.judge(seen))
    }

    /// The server's own expiry has removed what is over; the epoch is compared here.
    pub(crate) fn judge(&self, seen: Seen) -> Found {
        let Some(cell) = seen.cell.and_then(Cell::decode) else { return Found::Nothing };
        let told = seen.about.map(|about| about.epoch);
        if told.unwrap_or_else(|| self.state.heard.epoch()) != Some(cell.epoch) {
            return if told.is_some() { Found::Nothing } else { Found::Doubtful };
        }
        let watermark = seen.about.and_then(|about| about.watermark);
        write::stored(cell).map_or(Found::Nothing, |stored| Found::Entry(stored.with_watermark(watermark)))
    }

    /// What the log is told of an operation; nothing of those that change nothing for readers.
    fn note(&self, key: &TierKey, op: &Op) -> Bytes {
        match op {
            Op::Get | Op::Lease { .. } | Op::Fill { .. } => Bytes::new(),
            _ => self.note_of(&key.bytes),
        }
    }

    fn note_of(&self, key: &[u8]) -> Bytes {
        match self.space.level {
            Level::Ttl => Bytes::new(),
            _ => log::note(self.origin.load(Ordering::Relaxed), &self.space, key),
        }
    }

    pub(crate) fn plan_lease(&self, key: Bytes, op: Op) -> Plan {
        match op {
            // No fence at this level: any fill is taken, so a miss costs no second trip, unless others
            // are to wait for it.
            Op::Lease { token, .. } if self.space.level == Level::Ttl && !token.is_of_loader() => {
                Plan::Answer(Ok(Reply::Miss(Fence { token, version: version_now() })))
            }
            op => self.plan_script(key, Bytes::new(), op),
        }
    }

    pub(crate) fn plan_write(&self, key: Bytes, note: Bytes, op: Op) -> Plan {
        let bytes = write::body_bytes(&op);
        if bytes > self.max_value_bytes {
            let limit = self.max_value_bytes;
            let message = format!("a value of {bytes} bytes is above this tier's limit of {limit}");
            return Plan::Answer(Err(error(ErrorKind::TooLarge, message)));
        }
        match op {
            Op::Fill { version, deadlines, body, .. }
            | Op::Put { order: Order::Unfenced(version), deadlines, body, .. }
                if self.space.level == Level::Ttl && self.state.heard.is_fresh() =>
            {
                let epoch = self.state.heard.epoch().unwrap_or_default();
                let state = if body.is_some() { State::Value } else { State::Negative };
                let bytes = body.unwrap_or_default();
                let cell = Cell { state, version, epoch, token: Token::NONE, deadlines, bytes };
                Plan::Send(Request::Set(set(&key, &cell), version))
            }
            Op::Fill { version, deadlines, body, .. } if self.space.level == Level::Ttl => {
                let order = Order::Unfenced(version);
                let tombstone_ttl = std::time::Duration::ZERO;
                self.plan_script(key, note, Op::Put { order, deadlines, body, tombstone_ttl })
            }
            Op::Fill { fence, .. } if fence.token == Token::NONE => Plan::Answer(Ok(Reply::Refused(None))),
            op => self.plan_script(key, note, op),
        }
    }

    fn plan_script(&self, key: Bytes, note: Bytes, op: Op) -> Plan {
        match write::call(key, &self.state.layout, (&self.log.keys, note), op) {
            Ok(Some(call)) => Plan::Send(Request::Script(call)),
            Err(unknown) => Plan::Answer(Err(unknown)),
            Ok(None) => {
                Plan::Answer(Err(error(ErrorKind::Unsupported, "a batch holds operations of one kind")))
            }
        }
    }
}

/// What is to be done about one operation.
pub(crate) enum Plan {
    Answer(Result<Reply>),
    Send(Request),
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("space", &self.space)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

/// A plain SET; the server drops the cell at its own deadline.
fn set(key: &Bytes, cell: &Cell) -> Cmd {
    let bytes = cell.encode();
    let mut command = Cmd::with_capacity(5, key.len() + bytes.len() + 32);
    command.arg("SET").arg(key.as_ref()).arg(bytes.as_ref());
    let expires_at = cell.deadlines.expires_at.as_millis();
    if expires_at < FOREVER_MILLIS {
        command.arg("PXAT").arg(expires_at.max(1));
    }
    command
}

pub(crate) fn is_asked_over(op: &Op, version: Version) -> bool {
    matches!(op, Op::Lease { over: Some(seen), .. } if *seen == version)
}

/// At level `Ttl` nobody compares versions; they only grow for people who look.
fn version_now() -> Version {
    Version::NONE.next(Clock::system().micros())
}

pub(crate) fn located(error: Error, operation: &'static str) -> Error {
    let error = if error.tier().is_none() { error.at_tier(NAME) } else { error };
    if error.operation().is_none() { error.during(operation) } else { error }
}

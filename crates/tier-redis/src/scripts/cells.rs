//! Operations on cells, as the calls of their scripts.
//!
//! A call holds the operations of one kind on many cells, in groups: one for each namespace and tenant. Numbers are
//! big-endian, and times to live are in milliseconds. The layout is that of `lua/shared/each.lua`.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use redis::{Cmd, RedisWrite, ToRedisArgs};
use terrace_tier::{
    Clock, Condition, Deadlines, Epoch, Error, ErrorKind, Level, Namespace, Op, Order, Result, Token, Version,
};

use super::{CellShape, Script, ScriptCall};
use crate::{
    error::mixed_batch,
    log,
    namespace::{LogKeys, NamespaceState},
};

/// A time to live of this many milliseconds or more never ends: 2^52, about 140,000 years. The numbers
/// of Lua and of Redis hold it exactly.
const FOREVER_MILLIS: u64 = 1 << 52;
/// No cell stays for longer, whatever its deadline is (`lua/shared/life.lua`).
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// The namespace and tenant of cells, and the cache that changes them.
pub(crate) struct CellOwner {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) log_keys: Arc<LogKeys>,
    /// The follower whose cache makes these changes; zero for none.
    pub(crate) origin: AtomicU64,
}

impl CellOwner {
    /// The beginning of the log entries of its changes; empty at level `Ttl`, which keeps no log.
    pub(crate) fn entry_head(&self) -> Bytes {
        match self.namespace.level {
            Level::Ttl => Bytes::new(),
            _ => log::entry_head(self.origin.load(Ordering::Relaxed), &self.namespace),
        }
    }
}

/// An operation on a cell.
pub(crate) struct CellOp {
    pub(crate) owner: Arc<CellOwner>,
    /// The key of the cell in Redis.
    pub(crate) cell: Bytes,
    /// The key in the cache, for the log.
    pub(crate) key: Bytes,
    pub(crate) op: Op,
}

impl CellOp {
    /// The script that runs the operation.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for a plain read, and for an operation or order that a later version of the
    /// contract adds.
    pub(crate) fn script(&self) -> Result<Script> {
        match &self.op {
            Op::Lease { .. } => Ok(Script::Lease),
            Op::Fill { .. } => Ok(Script::Fill),
            Op::Put { order, .. } => order_letter(order).map(|_| Script::Put),
            Op::Invalidate { .. } => Ok(Script::Invalidate),
            Op::Remove { .. } => Ok(Script::Remove),
            Op::Expire { .. } => Ok(Script::Expire),
            Op::Get => Err(mixed_batch()),
            unknown => Err(unknown.unsupported()),
        }
    }

    /// About how many bytes the operation takes in a command.
    pub(crate) fn size(&self) -> usize {
        self.cell.len() + self.key.len() + body_bytes(&self.op) + 128
    }

    fn push_keys(&self, command: &mut Cmd) {
        command.arg(&self.cell[..]);
        if let Op::Fill { fence, .. } = &self.op {
            command.arg(&self.owner.state.layout.waiters(fence.token)[..]);
        }
    }

    fn push_args(&self, command: &mut Cmd) {
        match &self.op {
            Op::Lease { token, ttl, over, replaces } => {
                let (token, replaces) = (number(token.as_u64()), number(replaces.as_u64()));
                command.arg(Parts([&token[..], &replaces, &optional(*over)])).arg(millis(*ttl));
            }
            Op::Fill { fence, version, deadlines, body } => {
                let (token, version) = (number(fence.token.as_u64()), number(version.as_u64()));
                command.arg(Parts([&token, &version, state_of(body)]));
                command.arg(Content { deadlines, body }).arg(end_of(deadlines));
            }
            Op::Put { order, deadlines, body, tombstone_ttl } => {
                let ttl = number(millis(*tombstone_ttl));
                command.arg(Parts([&order_bytes(order)[..], &ttl, state_of(body)]));
                command.arg(Content { deadlines, body }).arg(end_of(deadlines)).arg(LoggedKey(&self.key));
            }
            Op::Invalidate { version, tombstone_ttl } => {
                command.arg(&optional(*version)[..]).arg(millis(*tombstone_ttl)).arg(LoggedKey(&self.key));
            }
            Op::Remove { tombstone_ttl } => {
                command.arg(millis(*tombstone_ttl)).arg(LoggedKey(&self.key));
            }
            Op::Expire { deadlines } => {
                command.arg(&deadline_bytes(deadlines)[..]).arg(LoggedKey(&self.key));
            }
            // Such an operation has no script.
            _ => {}
        }
    }
}

/// One call of a script, for operations of its kind. Operations of one owner that stand together are a group.
#[derive(Clone, Copy)]
pub(crate) struct CellCall<'a> {
    pub(crate) script: Script,
    pub(crate) ops: &'a [CellOp],
}

impl<'a> CellCall<'a> {
    fn groups(self) -> impl Iterator<Item = (&'a CellOwner, &'a [CellOp])> {
        let groups = self.ops.chunk_by(|one, next| Arc::ptr_eq(&one.owner, &next.owner));
        groups.filter_map(|group| Some((&*group.first()?.owner, group)))
    }

    /// The number of the keys of all groups.
    pub(crate) fn keys(self) -> usize {
        2 * self.groups().count() + self.script.shape_of_cells().keys * self.ops.len()
    }

    /// About how many bytes the keys and arguments take.
    pub(crate) fn size(self) -> usize {
        self.ops.iter().map(CellOp::size).sum::<usize>() + 256 * self.groups().count()
    }

    pub(crate) fn push_keys(self, command: &mut Cmd) {
        for (owner, group) in self.groups() {
            let own = &owner.state.layout.epoch;
            // A script takes two epochs: the tenant's own, and that of all tenants or its own again.
            command.arg(own).arg(owner.state.layout.shared_epoch.as_ref().unwrap_or(own));
            group.iter().for_each(|op| op.push_keys(command));
        }
    }

    pub(crate) fn push_args(self, command: &mut Cmd) {
        let is_logged = self.script.shape_of_cells().is_logged;
        for (owner, group) in self.groups() {
            let head = if is_logged { owner.entry_head() } else { Bytes::new() };
            command.arg(group.len()).arg(&head[..]);
            group.iter().for_each(|op| op.push_args(command));
        }
    }
}

impl ScriptCall for CellCall<'_> {
    fn script(&self) -> Script {
        self.script
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let CellShape { args, is_logged, .. } = self.script.shape_of_cells();
        let log = self.ops.first().filter(|_| is_logged).map(|op| &op.owner.log_keys);
        let keys = self.keys() + 2 * usize::from(is_logged);
        let parts = 4 + 2 * keys + args * self.ops.len();
        let mut command = Cmd::with_capacity(parts, script.len() + self.size() + 128);
        command.arg(name).arg(script).arg(keys);
        self.push_keys(&mut command);
        if let Some(log) = log {
            command.arg(&log.head[..]).arg(&log.entries[..]);
        }
        command.arg(&number(Epoch::random().as_u64()));
        self.push_args(&mut command);
        command
    }
}

/// One argument from several parts.
struct Parts<'a, const N: usize>([&'a [u8]; N]);

impl<const N: usize> ToRedisArgs for Parts<'_, N> {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        write_parts(out, self.0.iter().copied());
    }
}

/// What follows the epoch in the cell of an entry: no token, the deadlines and the envelope.
struct Content<'a> {
    deadlines: &'a Deadlines,
    body: &'a Option<Bytes>,
}

impl ToRedisArgs for Content<'_> {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        let (token, deadlines) = (number(Token::NONE.as_u64()), deadline_bytes(self.deadlines));
        write_parts(out, [&token[..], &deadlines, self.body.as_deref().unwrap_or_default()].into_iter());
    }
}

/// The key in a log entry: its length and its bytes.
struct LoggedKey<'a>(&'a [u8]);

impl ToRedisArgs for LoggedKey<'_> {
    fn write_redis_args<W: RedisWrite + ?Sized>(&self, out: &mut W) {
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes();
        write_parts(out, [&length[..], self.0].into_iter());
    }
}

fn write_parts<'a, W: RedisWrite + ?Sized>(out: &mut W, parts: impl Iterator<Item = &'a [u8]>) {
    let mut argument = out.writer_for_next_arg();
    for part in parts {
        // The command is in memory, so that writing to it cannot fail.
        let _infallible = argument.write_all(part);
    }
}

/// The size of the envelope in an operation.
pub(crate) fn body_bytes(op: &Op) -> usize {
    match op {
        Op::Fill { body: Some(body), .. } | Op::Put { body: Some(body), .. } => body.len(),
        _ => 0,
    }
}

const fn number(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The first argument of most scripts. It becomes the epoch if the server has none, and makes the log entry
/// unique.
pub(crate) fn random_number() -> Bytes {
    Bytes::copy_from_slice(&number(Epoch::random().as_u64()))
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).min(FOREVER_MILLIS)
}

/// When the server removes an entry, in ms.
pub(crate) fn end_of(deadlines: &Deadlines) -> u64 {
    let longest = Clock::system().now().after(LONGEST_LIFE);
    deadlines.expires_at.min(longest).as_millis()
}

/// The bytes of a version; none where there is no version.
fn optional(version: Option<Version>) -> Bytes {
    version.map_or_else(Bytes::new, |version| Bytes::copy_from_slice(&number(version.as_u64())))
}

fn deadline_bytes(deadlines: &Deadlines) -> [u8; 32] {
    let Deadlines { written, fresh_until, stale_until, expires_at } = *deadlines;
    let mut bytes = [0; 32];
    for (eight, point) in bytes.chunks_exact_mut(8).zip([written, fresh_until, stale_until, expires_at]) {
        eight.copy_from_slice(&number(point.as_millis()));
    }
    bytes
}

/// The state of an entry.
const fn state_of(body: &Option<Bytes>) -> &'static [u8] {
    match body {
        Some(_) => b"V",
        None => b"N",
    }
}

fn order_letter(order: &Order) -> Result<(u8, Version)> {
    match order {
        Order::Follow(version) => Ok((b'F', *version)),
        Order::Unfenced(version) => Ok((b'U', *version)),
        Order::Author(Condition::Always) => Ok((b'A', Version::NONE)),
        Order::Author(Condition::Absent) => Ok((b'N', Version::NONE)),
        Order::Author(Condition::Version(expected)) => Ok((b'C', *expected)),
        _ => Err(Error::new(ErrorKind::Unsupported, "the tier does not know this order of writes")),
    }
}

/// The letter and the version of an order. The operation has a script, so the order is known.
fn order_bytes(order: &Order) -> [u8; 9] {
    let (letter, version) = order_letter(order).unwrap_or_default();
    let mut bytes = [letter; 9];
    bytes[1..].copy_from_slice(&number(version.as_u64()));
    bytes
}

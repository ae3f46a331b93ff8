//! What `ready` finds: it tries each command that the cache will send, the log, and a wait for a lease.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use bytes::Bytes;
use redis::{Pipeline, Value};
use terrace_tier::{
    Clock, Condition, Deadlines, Error, ErrorKind, Finding, FindingTopic, Level, Namespace, Op, Order,
    Result, Role, TierKey, Token, key_digest,
};
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, hears, unheard, within},
    error::{Effect, code_of, server_error},
    findings::{ALLOW, finding_error},
    log::{self, Log},
    namespace::{Layout, LeaseKeys, LogKeys, NamespaceState, ready_prefix},
    scripts::{CellCall, CellOp, CellOwner, Script, ScriptCall},
};

/// How long the keys stay that the examination writes, if it cannot delete them.
const KEPT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(2);

/// What the cache cannot do without a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Reads and writes.
    Cells,
    Log,
    Leases,
    /// Freeing the memory of cells that a clear has made dead.
    Memory,
}

/// One command that the cache sends, by itself or in a script. The name of a key stands for that key.
struct Trial(Use, &'static [&'static str]);

const STRING: &str = "string";
const HASH: &str = "hash";
const SET: &str = "set";
const STREAM: &str = "stream";
const CHANNEL: &str = "channel";
const TTL: &str = "10000";

/// All commands of the tier but PING, ROLE, INFO and those of the login. The first ones make the keys, and the last
/// ones delete them.
const TRIALS: &[Trial] = &[
    Trial(Use::Cells, &["SET", STRING, "v", "PX", TTL]),
    Trial(Use::Cells, &["GET", STRING]),
    Trial(Use::Cells, &["GETRANGE", STRING, "0", "0"]),
    Trial(Use::Cells, &["MGET", STRING]),
    Trial(Use::Cells, &["SETRANGE", STRING, "0", "w"]),
    Trial(Use::Cells, &["PEXPIRE", STRING, TTL]),
    Trial(Use::Cells, &["TIME"]),
    Trial(Use::Cells, &["EVAL", "return 1", "0"]),
    // It is answered NOSCRIPT, or that it is not allowed.
    Trial(Use::Cells, &["EVALSHA", "0000000000000000000000000000000000000000", "0"]),
    Trial(Use::Cells, &["HSET", HASH, "field", "v"]),
    Trial(Use::Cells, &["HGET", HASH, "field"]),
    Trial(Use::Cells, &["HMGET", HASH, "field"]),
    Trial(Use::Cells, &["HDEL", HASH, "none"]),
    Trial(Use::Cells, &["XADD", STREAM, "MAXLEN", "~", "16", "*", "e", "v"]),
    Trial(Use::Log, &["HSETNX", HASH, "other", "v"]),
    Trial(Use::Log, &["XRANGE", STREAM, "-", "+", "COUNT", "1"]),
    Trial(Use::Log, &["XREAD", "COUNT", "1", "STREAMS", STREAM, "0"]),
    Trial(Use::Leases, &["SADD", SET, "member"]),
    Trial(Use::Leases, &["SMEMBERS", SET]),
    Trial(Use::Leases, &["PUBLISH", CHANNEL, ""]),
    Trial(Use::Memory, &["SCAN", "0", "COUNT", "1"]),
    Trial(Use::Memory, &["UNLINK", STRING, SET, STREAM]),
    Trial(Use::Cells, &["DEL", HASH]),
];

/// The parts of a tier that are examined.
pub(crate) struct Doctor<'a> {
    pub(crate) manager: &'a Arc<ConnectionManager>,
    pub(crate) log: &'a Log,
    pub(crate) prefix: &'a str,
    pub(crate) level: Level,
}

impl Doctor<'_> {
    /// What is wrong and only slows the cache.
    ///
    /// # Errors
    /// What stops the cache, with a finding.
    ///
    /// # Cost
    /// About ten trips, and two connections that are closed again.
    pub(crate) async fn examine(&self) -> Result<Vec<Finding>> {
        let mut findings = self.manager.connection().await?.link.facts.findings();
        findings.extend(self.try_commands().await?);
        self.try_scripts().await?;
        let is_known = |topic| findings.iter().any(|finding: &Finding| finding.topic() == topic);
        let (log_is_known, leases_are_known) = (is_known(FindingTopic::Log), is_known(FindingTopic::Leases));
        if self.level != Level::Ttl && !log_is_known {
            findings.extend(found(log::reads(self.log).await, log::unread)?);
        }
        if !leases_are_known {
            let channel = LeaseKeys::new(self.prefix).channel(fastrand::u64(..));
            findings.extend(found(hears(self.manager, &channel).await, unheard)?);
        }
        Ok(findings)
    }

    /// Sends each command once, on keys of its own.
    async fn try_commands(&self) -> Result<Vec<Finding>> {
        let number = fastrand::u64(..);
        let prefix = ready_prefix(self.prefix, number);
        let key = |kind: &str| format!("{prefix}:{kind}");
        let mut commands = Pipeline::with_capacity(TRIALS.len() + 2);
        for Trial(_, words) in TRIALS {
            let mut command = redis::Cmd::new();
            for word in *words {
                match *word {
                    STRING | HASH | SET | STREAM => command.arg(key(word)),
                    CHANNEL => command.arg(LeaseKeys::new(self.prefix).channel(number)),
                    word => command.arg(word),
                };
            }
            commands.add_command(command);
        }
        // Where the keys may not be deleted, they expire.
        for kind in [HASH, STREAM] {
            commands.cmd("PEXPIRE").arg(key(kind)).arg(TTL);
        }
        let sent = self.manager.send_many(&commands, Effect::Read);
        let replies = within(Instant::now() + PATIENCE, Effect::Read, sent).await?;
        let mut findings = Vec::new();
        for (Trial(purpose, words), reply) in TRIALS.iter().zip(replies) {
            let Value::ServerError(answer) = reply else { continue };
            // A key that was not made is no type that the next command takes.
            if matches!(code_of(&answer), "NOSCRIPT" | "WRONGTYPE") {
                continue;
            }
            let error = server_error(&answer);
            match (error.kind(), self.is_needed(*purpose)) {
                (_, None) => {}
                (ErrorKind::Denied | ErrorKind::Unsupported, Some(true)) => {
                    return Err(finding_error(error.kind(), refused(*purpose, words[0], true)));
                }
                (ErrorKind::Denied | ErrorKind::Unsupported, Some(false)) => {
                    findings.push(refused(*purpose, words[0], false));
                }
                _ => return Err(error),
            }
        }
        Ok(findings)
    }

    /// Runs scripts of the cache on a cell of its own: not every server runs the same Lua.
    async fn try_scripts(&self) -> Result<()> {
        let prefix = ready_prefix(self.prefix, fastrand::u64(..));
        let namespace = Namespace::new("ready", Role::Cache);
        let owner = Arc::new(CellOwner {
            state: Arc::new(NamespaceState::detached(Layout::new(&prefix, &namespace))),
            namespace: Arc::new(namespace),
            log_keys: Arc::new(LogKeys::new(&prefix)),
            origin: AtomicU64::new(0),
        });
        let (bytes, ttl) = (Bytes::from_static(b"key"), KEPT);
        let key = TierKey { digest: key_digest("ready", None, &bytes), bytes };
        let cell = owner.state.layout.cell(&key);
        let put = Op::Put {
            order: Order::Author(Condition::Always),
            deadlines: Deadlines::ttl(Clock::system().now(), ttl),
            body: Some(Bytes::new()),
            tombstone_ttl: ttl,
        };
        let lease = Op::Lease { token: Token::random(), ttl, over: None, replaces: Token::NONE };
        let mut commands = Pipeline::with_capacity(7);
        for (script, op) in [(Script::Lease, lease), (Script::Put, put)] {
            let op = CellOp { owner: Arc::clone(&owner), cell: cell.clone(), key: key.bytes.clone(), op };
            let call = CellCall { script, ops: std::slice::from_ref(&op) };
            commands.add_command(call.in_full());
        }
        let epoch = Bytes::copy_from_slice(owner.state.layout.epoch.as_bytes());
        let kept = [cell, epoch, owner.log_keys.head.clone(), owner.log_keys.entries.clone()];
        for key in &kept {
            commands.cmd("PEXPIRE").arg(&key[..]).arg(TTL);
        }
        commands.cmd("DEL").arg(kept.iter().map(|key| &key[..]).collect::<Vec<_>>());
        let sent = self.manager.send_many(&commands, Effect::Read);
        let replies = within(Instant::now() + PATIENCE, Effect::Read, sent).await?;
        match replies.as_slice() {
            [leased, put, ..] if begins(leased, b'M') && begins(put, b'K') => Ok(()),
            [Value::ServerError(answer), ..] | [_, Value::ServerError(answer), ..] => {
                let error = server_error(answer);
                Err(if error.finding().is_some() { error } else { other_lua(&error.to_string()) })
            }
            _ => Err(other_lua("its reply is another one")),
        }
    }

    /// Whether the cache cannot work without what the command is for; `None` where it never sends the command.
    fn is_needed(&self, purpose: Use) -> Option<bool> {
        match purpose {
            Use::Cells => Some(true),
            Use::Log if self.level == Level::Ttl => None,
            Use::Log | Use::Leases | Use::Memory => Some(false),
        }
    }
}

/// A finding for what failed. An error that waiting may resolve stays an error.
fn found(outcome: Result<()>, finding: fn(&Error) -> Finding) -> Result<Option<Finding>> {
    match outcome {
        Ok(()) => Ok(None),
        Err(error) if error.is_transient() => Err(error),
        Err(error) => Ok(Some(finding(&error))),
    }
}

/// Whether the reply of a script on one cell begins with this outcome.
fn begins(replies: &Value, outcome: u8) -> bool {
    let Value::Array(replies) = replies else { return false };
    matches!(&replies[..], [Value::BulkString(reply)] if reply.first() == Some(&outcome))
}

fn other_lua(why: &str) -> Error {
    let finding = Finding::stops(
        FindingTopic::Version,
        format!("the server cannot run the scripts of the cache: {why}"),
        "use Redis 6.2 or later, or Valkey",
    );
    finding_error(ErrorKind::Unsupported, finding)
}

fn refused(purpose: Use, command: &str, stops: bool) -> Finding {
    let (topic, consequence) = match purpose {
        Use::Cells => (FindingTopic::Permission, "the cache cannot work without it"),
        Use::Log => (FindingTopic::Log, "near copies are used for a second at most"),
        Use::Leases => (FindingTopic::Leases, "the ends of other processes' loads are polled"),
        Use::Memory => {
            (FindingTopic::Permission, "the memory of cleared copies is freed only when they expire")
        }
    };
    let cause = format!("the user may not run {command}: {consequence}");
    match stops {
        true => Finding::stops(topic, cause, ALLOW),
        false => Finding::slows(topic, cause, ALLOW),
    }
}

//! The Lua scripts, and how their calls are sent.
//!
//! - `cells`: operations on cells as calls: their keys and arguments.
//! - `batch`: the calls of concurrent callers share scripts and trips.
//! - `pipeline`: operations on many cells in few calls and few round trips.
//! - `reply`: the reply to an operation.

mod batch;
mod cells;
mod pipeline;
mod reply;

use std::sync::LazyLock;

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::Result;

pub(crate) use batch::CellBatchers;
pub(crate) use cells::{CellCall, CellOp, CellOwner, body_bytes, end_of, random_number};
pub(crate) use pipeline::{send_calls, trip_ends};
pub(crate) use reply::ScriptReply;

use crate::{connection::ConnectionManager, error::Effect, namespace::LogKeys};

/// The scripts of this tier. The first six work on cells: each is a function that changes one cell, and
/// `shared/each.lua` calls it for every cell of the call. What must work on a server whose memory is full begins
/// with `full.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Script {
    Lease,
    Fill,
    Put,
    Invalidate,
    Remove,
    Expire,
    Clear,
    Publish,
    JoinLog,
    LeaseStatus,
    Release,
    Reclaim,
    SweepLock,
    Options,
    Count,
}

/// What a script takes for each cell on which it works.
#[derive(Clone, Copy)]
struct CellShape {
    keys: usize,
    args: usize,
    /// Whether the script appends to the log.
    is_logged: bool,
}

impl Script {
    /// Of a script that works on cells, what it takes for each.
    const fn shape_of_cells(self) -> CellShape {
        let (keys, args, is_logged) = match self {
            Self::Lease => (1, 2, false),
            Self::Fill => (2, 3, false),
            Self::Put => (1, 4, true),
            Self::Invalidate => (1, 3, true),
            _ => (1, 2, true),
        };
        CellShape { keys, args, is_logged }
    }
}

macro_rules! lua {
    ($($file:literal),*) => {
        concat!($(include_str!(concat!("lua/", $file, ".lua"))),*)
    };
}

/// What the functions on cells need.
macro_rules! cells {
    () => {
        lua!("shared/life", "shared/head", "shared/cell", "shared/marker", "shared/each")
    };
}

/// What the functions on cells need that append to the log.
macro_rules! logged_cells {
    () => {
        concat!(cells!(), lua!("shared/log", "shared/version"))
    };
}

/// A script that calls its function for each cell.
macro_rules! change {
    ($change:literal) => {
        concat!(cells!(), lua!($change), "return each(", $change, ", 1, #KEYS, 2)\n")
    };
    ($change:literal, logged) => {
        concat!(
            logged_cells!(),
            lua!($change),
            "return each(",
            $change,
            ", 1, #KEYS - 2, 2, begin_group, end_group)\n"
        )
    };
}

struct Source {
    code: &'static str,
    hash: String,
}

impl Source {
    fn new(code: &'static str) -> Self {
        Self { code, hash: redis::Script::new(code).get_hash().to_owned() }
    }
}

/// The sources, in the order of [`Script`].
static SOURCES: LazyLock<[Source; 15]> = LazyLock::new(|| {
    [
        change!("lease"),
        change!("fill"),
        change!("put", logged),
        concat!(lua!("shared/full"), change!("invalidate", logged)),
        concat!(lua!("shared/full"), change!("remove", logged)),
        concat!(lua!("shared/full"), change!("expire", logged)),
        lua!("shared/full", "shared/life", "shared/head", "shared/log", "clear"),
        concat!(lua!("shared/full"), logged_cells!(), lua!("invalidate", "put", "publish")),
        lua!("shared/life", "join_log"),
        lua!("shared/life", "shared/head", "shared/cell", "lease_status"),
        lua!("release"),
        lua!("shared/life", "shared/head", "reclaim"),
        lua!("sweep_lock"),
        lua!("options"),
        lua!("count"),
    ]
    .map(Source::new)
});

/// The call that makes all cells of a namespace dead, by new values for `epochs`. `entry_head` begins its log entry.
pub(crate) fn clear(epochs: Vec<Bytes>, log: &LogKeys, entry_head: Bytes) -> Call {
    let mut args = vec![random_number()];
    args.extend(epochs.iter().map(|_| random_number()));
    args.push(entry_head);
    let keys = epochs.into_iter().chain([log.head.clone(), log.entries.clone()]).collect();
    Call { script: Script::Clear, keys, args }
}

/// A call of a script, which is sent by the hash of the script.
pub(crate) trait ScriptCall {
    fn script(&self) -> Script;

    /// The command with the name `name` that runs a script, which `script` is or stands for.
    fn command(&self, name: &str, script: &str) -> Cmd;

    /// The `EVALSHA` command.
    fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &SOURCES[self.script() as usize].hash)
    }

    /// The `EVAL` command, for a server that does not know the script.
    fn in_full(&self) -> Cmd {
        self.command("EVAL", SOURCES[self.script() as usize].code)
    }

    /// Sends the call and returns the reply, which may be [`Value::ServerError`]. One round trip, or two
    /// if the server does not know the script.
    fn run(&self, manager: &ConnectionManager, effect: Effect) -> impl Future<Output = Result<Value>> + Send
    where
        Self: Sync,
    {
        async move {
            let value = manager.send(&self.by_hash(), effect).await?;
            if is_unknown_script(&value) { manager.send(&self.in_full(), effect).await } else { Ok(value) }
        }
    }
}

/// A call of a script that does not work on groups of cells.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) keys: Vec<Bytes>,
    pub(crate) args: Vec<Bytes>,
}

impl ScriptCall for Call {
    fn script(&self) -> Script {
        self.script
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(&self.args);
        let bytes: usize = parts.clone().map(Bytes::len).sum();
        let mut command =
            Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes + script.len() + 16);
        command.arg(name).arg(script).arg(self.keys.len());
        for part in parts {
            command.arg(part.as_ref());
        }
        command
    }
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(answer) if answer.code() == "NOSCRIPT")
}

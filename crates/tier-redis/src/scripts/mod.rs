//! The Lua scripts, and how one call of a script is sent.
//!
//! - `calls`: the keys and arguments of the script for each operation.
//! - `request`: one operation as a command, and the reply to it.
//! - `pipeline`: many requests in few round trips.

mod calls;
mod pipeline;
mod request;

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::Result;

pub(crate) use calls::{
    change, clear, condition_args, deadline_bytes, lease, millis, number, random_number, version_or_empty,
};
pub(crate) use pipeline::{Batch, PAGE_REQUESTS, send_all};
pub(crate) use request::{Action, Request, decode_reply};

use crate::{connection::ConnectionManager, error::Effect};

/// The scripts of this tier. A script that works on a cell begins with `life.lua`, `head.lua` and `cell.lua`; a
/// script that appends to the log also contains `log.lua`, and one that issues versions `version.lua`. What must
/// work on a server whose memory is full begins with `full.lua`.
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
}

macro_rules! lua {
    ($($file:literal),*) => {
        concat!($(include_str!(concat!("lua/", $file, ".lua"))),*)
    };
}

/// A script as a Lua function of its KEYS and ARGV.
macro_rules! lua_function {
    ($name:literal: $($file:literal),*) => {
        concat!("local function ", $name, "(KEYS, ARGV)\n", lua!($($file),*), "end\n")
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
static SOURCES: LazyLock<[Source; 14]> = LazyLock::new(|| {
    [
        lua!("shared/life", "shared/head", "shared/cell", "lease"),
        lua!("shared/life", "shared/head", "shared/cell", "fill"),
        lua!("shared/life", "shared/head", "shared/cell", "shared/log", "shared/version", "put"),
        lua!("shared/full", "shared/life", "shared/head", "shared/cell", "shared/log", "invalidate"),
        lua!(
            "shared/full",
            "shared/life",
            "shared/head",
            "shared/cell",
            "shared/log",
            "shared/version",
            "remove"
        ),
        lua!("shared/full", "shared/life", "shared/head", "shared/cell", "shared/log", "expire"),
        lua!("shared/full", "shared/life", "shared/log", "clear"),
        concat!(
            lua!("shared/full", "shared/life", "shared/head"),
            lua_function!("clear": "shared/log", "clear"),
            lua_function!("invalidate": "shared/cell", "shared/log", "invalidate"),
            lua_function!("put": "shared/cell", "shared/log", "shared/version", "put"),
            lua!("shared/cell", "publish"),
        ),
        lua!("shared/life", "join_log"),
        lua!("shared/life", "shared/head", "shared/cell", "lease_status"),
        lua!("release"),
        lua!("shared/life", "shared/head", "reclaim"),
        lua!("sweep_lock"),
        lua!("options"),
    ]
    .map(Source::new)
});

/// One call of a script.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) script: Script,
    pub(crate) keys: Vec<Bytes>,
    pub(crate) args: Vec<Bytes>,
}

impl Call {
    /// Sends the call and returns the reply, which may be [`Value::ServerError`]. One round trip, or two
    /// if the server does not know the script.
    pub(crate) async fn run(&self, manager: &Arc<ConnectionManager>, effect: Effect) -> Result<Value> {
        let value = manager.send(&self.by_hash(), effect).await?;
        if is_unknown_script(&value) { manager.send(&self.in_full(), effect).await } else { Ok(value) }
    }

    /// The `EVALSHA` command.
    fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &self.source().hash)
    }

    /// The `EVAL` command, for a server that does not know the script.
    pub(crate) fn in_full(&self) -> Cmd {
        self.command("EVAL", self.source().code)
    }

    fn source(&self) -> &'static Source {
        &SOURCES[self.script as usize]
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

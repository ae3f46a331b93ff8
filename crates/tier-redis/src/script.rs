//! The scripts and how one call of each is sent.

use std::sync::LazyLock;

use redis::{Cmd, Script};

/// One script of this tier. Those on a cell begin with `head.lua` and `cell.lua`, those that tell of
/// what they change have `log.lua`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Lease,
    Fill,
    Put,
    Invalidate,
    Remove,
    Expire,
    Clear,
    Publish,
    Join,
    Look,
    GiveBack,
    Reclaim,
    Terms,
}

macro_rules! scripts {
    ($($file:literal),*) => {
        Source::new(concat!($(include_str!(concat!("scripts/", $file, ".lua"))),*))
    };
}

/// A script as a Lua function of what it takes for its KEYS and ARGV.
macro_rules! function {
    ($name:literal: $($file:literal),*) => {
        concat!(
            "local function ", $name, "(KEYS, ARGV)\n",
            $(include_str!(concat!("scripts/", $file, ".lua"))),*,
            "end\n"
        )
    };
}

struct Source {
    code: &'static str,
    hash: String,
}

impl Source {
    fn new(code: &'static str) -> Self {
        Self { code, hash: Script::new(code).get_hash().to_owned() }
    }
}

/// In the order of [`Name`].
static SCRIPTS: LazyLock<[Source; 13]> = LazyLock::new(|| {
    [
        scripts!("head", "cell", "lease"),
        scripts!("head", "cell", "fill"),
        scripts!("head", "cell", "log", "put"),
        scripts!("head", "cell", "log", "invalidate"),
        scripts!("head", "cell", "log", "remove"),
        scripts!("head", "cell", "log", "expire"),
        scripts!("log", "clear"),
        Source::new(concat!(
            include_str!("scripts/head.lua"),
            function!("clear": "log", "clear"),
            function!("invalidate": "cell", "log", "invalidate"),
            function!("put": "cell", "log", "put"),
            include_str!("scripts/cell.lua"),
            include_str!("scripts/publish.lua"),
        )),
        scripts!("join"),
        scripts!("head", "cell", "look"),
        scripts!("give_back"),
        scripts!("head", "reclaim"),
        scripts!("terms"),
    ]
});

/// One call: the script, its keys and arguments, ready to be sent by hash or in full.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) script: Name,
    pub(crate) keys: Vec<bytes::Bytes>,
    pub(crate) args: Vec<bytes::Bytes>,
}

impl Call {
    /// `EVALSHA`: what is sent first.
    pub(crate) fn by_hash(&self) -> Cmd {
        self.command("EVALSHA", &source(self.script).hash)
    }

    /// `EVAL`: after the server said that it does not know the script.
    pub(crate) fn in_full(&self) -> Cmd {
        self.command("EVAL", source(self.script).code)
    }

    /// `SCRIPT LOAD`, before a batch is sent again.
    pub(crate) fn load(&self) -> Cmd {
        let mut command = redis::cmd("SCRIPT");
        command.arg("LOAD").arg(source(self.script).code);
        command
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let parts = self.keys.iter().chain(&self.args);
        let bytes: usize = parts.clone().map(bytes::Bytes::len).sum();
        let mut command =
            Cmd::with_capacity(3 + self.keys.len() + self.args.len(), bytes + script.len() + 16);
        command.arg(name).arg(script).arg(self.keys.len());
        for part in parts {
            command.arg(part.as_ref());
        }
        command
    }
}

fn source(name: Name) -> &'static Source {
    &SCRIPTS[name as usize]
}

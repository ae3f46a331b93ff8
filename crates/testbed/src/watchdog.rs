//! Ends a server and removes its folder when its owner lets go, dead or alive.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::{Error, Result};

/// A shell that reads the server's process id from its input, line by line, and
/// acts when the input ends: on a drop, or when the test process dies in
/// whatever way, SIGKILL included, for then the system closes the pipe.
#[derive(Debug)]
pub(crate) struct Watchdog {
    shell: Child,
    input: Option<ChildStdin>,
}

/// `$1` the folder, `$2` the signal that ends the server. A killed postgres leaves
/// its System V segment behind; the seventh line of its pid file names it.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
pid=
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
  kill -CONT "$pid" 2>/dev/null
  kill -"$2" "$pid" 2>/dev/null
  n=0
  while kill -0 "$pid" 2>/dev/null && [ "$n" -lt 300 ]; do sleep 0.02; n=$((n + 1)); done
  kill -KILL "$pid" 2>/dev/null
fi
if [ -f "$1/data/postmaster.pid" ]; then
  segment=$(sed -n '7s/.*[^0-9]//p' "$1/data/postmaster.pid")
  [ -n "$segment" ] && ipcrm -m "$segment" 2>/dev/null
fi
rm -rf -- "$1"
"#;

impl Watchdog {
    /// Starts a watchdog over `folder` that ends the server by `signal` (`KILL`, `QUIT`).
    pub(crate) fn start(folder: &Path, signal: &str) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "terrace-testbed-watchdog"])
            .arg(folder)
            .arg(signal)
            .stdin(Stdio::piped())
            // The watchdog may outlive the test process: it must hold neither
            // its output open nor its folder, nor get its terminal's Ctrl-C.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting the watchdog shell"))?;
        let input = shell.stdin.take();
        Ok(Self { shell, input })
    }

    /// From now on the server is this process, or there is none.
    pub(crate) fn watch(&mut self, pid: Option<u32>) -> Result<()> {
        let line = pid.map_or_else(|| "\n".to_owned(), |pid| format!("{pid}\n"));
        match &mut self.input {
            Some(input) => input.write_all(line.as_bytes()).map_err(Error::io("telling the watchdog")),
            None => Ok(()),
        }
    }

    /// Lets the watchdog act now.
    pub(crate) fn release(&mut self) {
        self.input = None;
    }

    /// Waits until the watchdog has done its work.
    pub(crate) fn wait(&mut self) {
        let _status = self.shell.wait();
    }
}

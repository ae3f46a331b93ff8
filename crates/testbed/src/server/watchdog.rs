//! Ends a server and removes its folder when the handle is dropped or the test process dies.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
};

use crate::{Error, Result};

/// A shell that reads the server's process id from its input, line by line, and acts when the input
/// ends.
///
/// The input ends when the handle is dropped. It also ends when the test process dies, even by
/// SIGKILL, since the operating system then closes the pipe.
#[derive(Debug)]
pub(super) struct Watchdog {
    shell: Child,
    input: Option<ChildStdin>,
}

/// `$1` is the folder, `$2` the signal that ends the server. A killed postgres leaves its System V
/// shared memory segment behind; the seventh line of its pid file names the segment.
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
    /// Starts a watchdog for `folder` that ends the server by `signal` (`KILL`, `QUIT`).
    pub(super) fn start(folder: &Path, signal: &str) -> Result<Self> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "terrace-testbed-watchdog"])
            .arg(folder)
            .arg(signal)
            .stdin(Stdio::piped())
            // The watchdog may outlive the test process, so it must not hold that process's output
            // or folder open, and must not get its terminal's Ctrl-C.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(Error::io("starting the watchdog shell"))?;
        let input = shell.stdin.take();
        Ok(Self { shell, input })
    }

    /// Names the process that is the server from now on; `None` if no server runs.
    pub(super) fn watch(&mut self, pid: Option<u32>) -> Result<()> {
        let line = pid.map_or_else(|| "\n".to_owned(), |pid| format!("{pid}\n"));
        match &mut self.input {
            Some(input) => input.write_all(line.as_bytes()).map_err(Error::io("writing to the watchdog")),
            None => Ok(()),
        }
    }

    /// Makes the watchdog act now.
    pub(super) fn release(&mut self) {
        self.input = None;
    }

    /// Waits until the watchdog has done its work.
    pub(super) fn wait(&mut self) {
        let _status = self.shell.wait();
    }
}

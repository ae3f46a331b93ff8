//! One server process: its folder, its port, its start and its end.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{SetUpStep, folder, signals, watchdog::Watchdog};
use crate::{Error, Result, port::HeldPort};

/// Long, for a loaded machine: a server that ends instead is noticed at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// Another process may take a port between its release here and the bind of the server.
const PORT_ATTEMPTS: usize = 5;

type CommandFor = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;

/// How to run one server.
pub(super) struct ProcessSpec {
    pub(super) program: &'static str,
    /// The command that runs the server in the foreground, given the folder and the port.
    pub(super) command: CommandFor,
    /// Whether the server on this port is ready for clients.
    pub(super) is_ready: fn(u16) -> std::io::Result<bool>,
    /// The name of the signal that ends the server at once and lets it clean up outside its folder.
    pub(super) end_signal: &'static str,
    /// Whether the folder must be on a disk.
    pub(super) on_disk: bool,
}

/// A server, running or away, with a folder and a port that stay the same.
pub(crate) struct ServerProcess {
    spec: ProcessSpec,
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    port: u16,
    /// Keeps the port while no server uses it.
    held: Option<HeldPort>,
    child: Option<Child>,
    watchdog: Watchdog,
}

impl ServerProcess {
    /// Reserves a folder and a port and starts no server.
    pub(super) fn away(spec: ProcessSpec) -> Result<Self> {
        let folder = folder::create(spec.on_disk)?;
        let watchdog = Watchdog::start(folder.path(), spec.end_signal)?;
        let held = HeldPort::any()?;
        let state = State { port: held.number(), held: Some(held), child: None, watchdog };
        // From here on the watchdog removes the folder.
        Ok(Self { spec, folder: folder.keep(), state: Mutex::new(state) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn port(&self) -> u16 {
        self.lock().port
    }

    pub(super) fn pid(&self) -> Result<u32> {
        self.lock().child.as_ref().map(Child::id).ok_or_else(|| self.not_running())
    }

    /// Starts the server for the first time, on another port if its own was taken meanwhile.
    pub(super) fn start(&self) -> Result<()> {
        let mut attempt = 1;
        loop {
            match self.restart() {
                Err(error) if is_port_taken(&error) && attempt < PORT_ATTEMPTS => attempt += 1,
                other => return other,
            }
            let held = HeldPort::any()?;
            let mut state = self.lock();
            state.port = held.number();
            state.held = Some(held);
        }
    }

    /// Kills the server if it runs, then starts it on its port and folder.
    pub(super) fn restart(&self) -> Result<()> {
        let mut state = self.lock();
        self.end(&mut state)?;
        state.held = None;
        let spawned = self.spawn(state.port);
        match spawned {
            Ok(child) => {
                state.watchdog.watch(Some(child.id()))?;
                state.child = Some(child);
            }
            Err(error) => {
                state.held = HeldPort::again(state.port).ok();
                return Err(error);
            }
        }
        let ready = self.wait_until_ready(&mut state);
        if ready.is_err() {
            self.end(&mut state)?;
        }
        ready
    }

    /// Kills the server with all its processes and reaps it.
    pub(super) fn kill(&self) -> Result<()> {
        let mut state = self.lock();
        if state.child.is_none() {
            return Err(self.not_running());
        }
        self.end(&mut state)
    }

    /// Stops the server with all its processes: connections stay open and get no answer.
    pub(super) fn pause(&self) -> Result<()> {
        self.pid().map(signals::stop_tree)
    }

    /// Lets a stopped server continue.
    pub(super) fn resume(&self) -> Result<()> {
        self.pid().map(signals::resume_tree)
    }

    /// Runs a program that prepares the folder to its end, under the watchdog.
    pub(super) fn run_first(&self, step: SetUpStep) -> Result<()> {
        let SetUpStep { name: program, mut command, input } = step;
        let mut state = self.lock();
        let stdin = if input.is_some() { Stdio::piped() } else { Stdio::null() };
        let mut child = self.spawn_logged(&mut command, program, stdin)?;
        state.watchdog.watch(Some(child.id()))?;
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            let what = format!("writing to {program}");
            stdin.write_all(input.as_bytes()).map_err(Error::io(what))?;
        }
        let status = child.wait().map_err(Error::io(format!("waiting for {program}")))?;
        state.watchdog.watch(None)?;
        if status.success() { Ok(()) } else { Err(Error::Exited { program, status, log: self.log_tail() }) }
    }

    fn end(&self, state: &mut State) -> Result<()> {
        let Some(mut child) = state.child.take() else {
            return Ok(());
        };
        signals::kill_tree(child.id());
        child.wait().map_err(Error::io(format!("reaping {}", self.spec.program)))?;
        state.watchdog.watch(None)?;
        // Failing to hold the port is no error here: the restart reports another owner of the port.
        state.held = HeldPort::again(state.port).ok();
        Ok(())
    }

    fn spawn(&self, port: u16) -> Result<Child> {
        let mut command = (self.spec.command)(&self.folder, port);
        self.spawn_logged(&mut command, self.spec.program, Stdio::null())
    }

    /// Starts a program in the folder; its output goes to the log.
    fn spawn_logged(&self, command: &mut Command, program: &'static str, stdin: Stdio) -> Result<Child> {
        let log = File::create(self.log()).map_err(Error::io("making a server's log"))?;
        let log_too = log.try_clone().map_err(Error::io("making a server's log"))?;
        command
            .current_dir(&self.folder)
            .stdin(stdin)
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(Error::io(format!("starting {program}")))
    }

    fn wait_until_ready(&self, state: &mut State) -> Result<()> {
        let program = self.spec.program;
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if let Some(child) = &mut state.child
                && let Some(status) = child.try_wait().map_err(Error::io(format!("watching {program}")))?
            {
                return Err(Error::Exited { program, status, log: self.log_tail() });
            }
            if (self.spec.is_ready)(state.port).unwrap_or(false) {
                return Ok(());
            }
            sleep(PROBE_INTERVAL);
        }
        Err(Error::NotReady { program, waited: START_TIMEOUT, log: self.log_tail() })
    }

    fn log(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn not_running(&self) -> Error {
        Error::NotRunning { program: self.spec.program }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = &state.child {
            signals::resume_tree(child.id());
        }
        state.watchdog.release();
        // The process is reaped here, since the watchdog waits until it is gone.
        if let Some(mut child) = state.child.take() {
            let _status = child.wait();
        }
        state.watchdog.wait();
    }
}

impl std::fmt::Debug for ServerProcess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServerProcess")
            .field("program", &self.spec.program)
            .field("folder", &self.folder)
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}

fn is_port_taken(error: &Error) -> bool {
    matches!(error, Error::Exited { log, .. } if log.to_lowercase().contains("address already in use"))
}

//! One server process: its folder, its port, its life.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::port::HeldPort;
use crate::processes;
use crate::watchdog::Watchdog;
use crate::{Error, Result};

/// A server on a loaded machine may take long; one that ends is seen at once.
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PROBE_INTERVAL: Duration = Duration::from_millis(5);
/// Another process may take a port between its release here and the server's bind.
const PORT_ATTEMPTS: usize = 5;

type CommandFor = Box<dyn Fn(&Path, u16) -> Command + Send + Sync>;

/// What makes one kind of server.
pub(crate) struct Kind {
    pub(crate) program: &'static str,
    /// The command that runs it in the foreground, given folder and port.
    pub(crate) command: CommandFor,
    /// Whether the server on this port answers.
    pub(crate) ready: fn(u16) -> std::io::Result<bool>,
    /// The signal that ends it at once and lets it clean up what is not its folder.
    pub(crate) end_signal: &'static str,
    /// Whether the folder must be on a disk.
    pub(crate) on_disk: bool,
}

/// A server, running or away, with a folder and a port that stay the same.
pub(crate) struct Server {
    kind: Kind,
    folder: PathBuf,
    state: Mutex<State>,
}

struct State {
    port: u16,
    /// Keeps the port while no server has it.
    held: Option<HeldPort>,
    child: Option<Child>,
    watchdog: Watchdog,
}

impl Server {
    /// A folder and a port, and no server yet.
    pub(crate) fn away(kind: Kind) -> Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("terrace-testbed-")
            .tempdir_in(place(kind.on_disk))
            .map_err(Error::io("making a folder for a server"))?;
        let watchdog = Watchdog::start(folder.path(), kind.end_signal)?;
        let held = HeldPort::any()?;
        let state = State { port: held.number(), held: Some(held), child: None, watchdog };
        // From here on the watchdog removes the folder.
        Ok(Self { kind, folder: folder.keep(), state: Mutex::new(state) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn port(&self) -> u16 {
        self.lock().port
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.lock().child.as_ref().map(Child::id).ok_or_else(|| self.not_running())
    }

    /// The first start, which may move to another port.
    pub(crate) fn start(&self) -> Result<()> {
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
    pub(crate) fn restart(&self) -> Result<()> {
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
    pub(crate) fn kill(&self) -> Result<()> {
        let mut state = self.lock();
        if state.child.is_none() {
            return Err(self.not_running());
        }
        self.end(&mut state)
    }

    /// Stops the server with all its processes: it holds its connections and answers nothing.
    pub(crate) fn pause(&self) -> Result<()> {
        self.pid().map(processes::stop_tree)
    }

    /// Lets a stopped server go on.
    pub(crate) fn resume(&self) -> Result<()> {
        self.pid().map(processes::resume_tree)
    }

    /// Runs a program that prepares the folder, under the watchdog.
    pub(crate) fn prepare(&self, program: &'static str, command: &mut Command) -> Result<()> {
        let mut state = self.lock();
        let mut child = self.spawn_logged(command, program)?;
        state.watchdog.watch(Some(child.id()))?;
        let status = child.wait().map_err(Error::io(format!("waiting for {program}")))?;
        state.watchdog.watch(None)?;
        if status.success() { Ok(()) } else { Err(Error::LeaseEnd { program, status, log: self.log_tail() }) }
    }

    fn end(&self, state: &mut State) -> Result<()> {
        let Some(mut child) = state.child.take() else {
            return Ok(());
        };
        processes::kill_tree(child.id());
        child.wait().map_err(Error::io(format!("reaping {}", self.kind.program)))?;
        state.watchdog.watch(None)?;
        // Not to hold the port is no fault: its next owner is then seen at the restart.
        state.held = HeldPort::again(state.port).ok();
        Ok(())
    }

    fn spawn(&self, port: u16) -> Result<Child> {
        let mut command = (self.kind.command)(&self.folder, port);
        self.spawn_logged(&mut command, self.kind.program)
    }

    /// Starts a program in the folder, its output in the log.
    fn spawn_logged(&self, command: &mut Command, program: &'static str) -> Result<Child> {
        let log = File::create(self.log()).map_err(Error::io("making a server's log"))?;
        let log_too = log.try_clone().map_err(Error::io("making a server's log"))?;
        command
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(log_too)
            .spawn()
            .map_err(Error::io(format!("starting {program}")))
    }

    fn wait_until_ready(&self, state: &mut State) -> Result<()> {
        let program = self.kind.program;
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if let Some(child) = &mut state.child
                && let Some(status) = child.try_wait().map_err(Error::io(format!("watching {program}")))?
            {
                return Err(Error::LeaseEnd { program, status, log: self.log_tail() });
            }
            if (self.kind.ready)(state.port).unwrap_or(false) {
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
        Error::NotRunning { program: self.kind.program }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = &state.child {
            processes::resume_tree(child.id());
        }
        state.watchdog.release();
        // Ours to reap: the watchdog waits until the process is gone.
        if let Some(mut child) = state.child.take() {
            let _status = child.wait();
        }
        state.watchdog.wait();
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("program", &self.kind.program)
            .field("folder", &self.folder)
            .field("port", &self.port())
            .finish_non_exhaustive()
    }
}

/// Runs blocking server work on a thread of its own. Tokio holds virtual time
/// still while such work runs.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(std::io::Error::other)
        .map_err(Error::io("running a server's thread"))?
}

/// `restart` of a shared server, off the caller's thread.
pub(crate) async fn restart(server: &Arc<Server>) -> Result<()> {
    let server = Arc::clone(server);
    blocking(move || server.restart()).await
}

/// Where folders go: in memory where there is room, for a database is hundreds
/// of small files, which a disk busy with builds takes ten times as long to make.
fn place(on_disk: bool) -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const ROOM_BYTES: u64 = 4 << 30;
    let room_bytes = || rustix::fs::statvfs(MEMORY).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if on_disk || std::env::var_os("TMPDIR").is_some() || room_bytes() < ROOM_BYTES {
        std::env::temp_dir()
    } else {
        PathBuf::from(MEMORY)
    }
}

fn is_port_taken(error: &Error) -> bool {
    matches!(error, Error::LeaseEnd { log, .. } if log.to_lowercase().contains("address already in use"))
}

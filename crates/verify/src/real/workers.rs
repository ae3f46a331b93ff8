//! The workers of a round: this program again, as processes that are killed and stopped.

use std::{
    io::{BufRead, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use terrace::BoxError;

use super::{
    plan::Plan,
    record::{Line, now},
    worker::{ARGUMENT, FINISH, Place, QUIET},
};

/// The lines that the workers and the driver have written so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Vec<Line>>, Condvar)>);

impl Lines {
    pub(crate) fn push(&self, line: Line) {
        self.lock().push(line);
        self.0.1.notify_all();
    }

    pub(crate) fn take(&self) -> Vec<Line> {
        std::mem::take(&mut self.lock())
    }

    /// How many reads were answered.
    pub(crate) fn reads(&self) -> usize {
        self.lock().iter().filter(|line| matches!(line, Line::Read(_))).count()
    }

    /// Waits until this many lines are of a kind; false where that takes too long, or where the wait is
    /// not needed any more.
    fn wait_for(&self, count: usize, is: fn(&Line) -> bool, mut may_come: impl FnMut() -> bool) -> bool {
        let began = Instant::now();
        let mut lines = self.lock();
        while lines.iter().filter(|line| is(line)).count() < count {
            if began.elapsed() > PATIENCE || !may_come() {
                return false;
            }
            let woken = self.0.1.wait_timeout(lines, Duration::from_millis(50));
            lines = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The addresses of the workers' servers, behind the proxies.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    pub(crate) redis: Option<String>,
    pub(crate) postgres: String,
}

/// All workers of a round. They end with it.
pub(crate) struct Workers {
    plan: Plan,
    addresses: Addresses,
    lines: Lines,
    lives: u32,
    slots: Vec<Worker>,
}

struct Worker {
    process: u32,
    child: Child,
    input: Option<ChildStdin>,
    reader: Option<JoinHandle<()>>,
}

/// How long workers may take to begin, or to read every key and end: builds may keep the machine busy.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

impl Workers {
    /// Starts them all, and waits until each has its cache.
    pub(crate) fn start(plan: &Plan, addresses: Addresses, lines: Lines) -> Result<Self, BoxError> {
        let mut workers = Self { plan: plan.clone(), addresses, lines, lives: 0, slots: Vec::new() };
        for _ in 0..plan.workers {
            let worker = workers.spawn()?;
            workers.slots.push(worker);
        }
        let slots = &mut workers.slots;
        let may_begin =
            || slots.iter_mut().all(|worker| worker.child.try_wait().is_ok_and(|end| end.is_none()));
        let is_ready = |line: &Line| matches!(line, Line::Ready { .. });
        let ready = workers.lines.wait_for(plan.workers, is_ready, may_begin);
        if ready { Ok(workers) } else { Err("the workers did not begin".into()) }
    }

    fn spawn(&mut self) -> Result<Worker, BoxError> {
        self.lives += 1;
        let Addresses { redis, postgres } = self.addresses.clone();
        // The audit knows by this name which worker made a change.
        let postgres = format!("{postgres}?application_name={}", self.lives);
        let place = Place { plan: self.plan.clone(), process: self.lives, redis, postgres };
        let mut child = Command::new(super::this_program()?)
            .arg(ARGUMENT)
            .arg(serde_json::to_string(&place)?)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let lines = self.lines.clone();
        let reader = output.map(|output| std::thread::spawn(move || read(output, &lines)));
        Ok(Worker { process: self.lives, child, input, reader })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn signal(&self, slot: usize, signal: Signal) {
        self.slots[slot].signal(signal);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, slot: usize) {
        let worker = &mut self.slots[slot];
        worker.end();
        self.lines.push(Line::Died { process: worker.process, at: now() });
    }

    /// Starts another worker in the place of one that was killed.
    pub(crate) fn replace(&mut self, slot: usize) -> Result<(), BoxError> {
        self.slots[slot] = self.spawn()?;
        Ok(())
    }

    /// Tells all callers to end their last call.
    pub(crate) fn quiet(&mut self) {
        self.slots.iter_mut().for_each(|worker| worker.tell(QUIET));
    }

    /// Lets each read all keys once more, and waits for their end.
    pub(crate) fn finish(mut self) -> Result<(), BoxError> {
        self.slots.iter_mut().for_each(|worker| worker.tell(FINISH));
        let is_done = |line: &Line| matches!(line, Line::Done { .. });
        let done = self.lines.wait_for(self.slots.len(), is_done, || true);
        if done { Ok(()) } else { Err("a worker did not come to its end".into()) }
    }
}

impl Worker {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _gone = kill_process(pid, signal);
        }
    }

    fn tell(&mut self, word: &str) {
        if let Some(input) = &mut self.input {
            // A worker that has died is noticed by its missing last line.
            let _gone = writeln!(input, "{word}");
        }
    }

    /// Kills it, and reads what it had written.
    fn end(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _panicked = reader.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// Reads whole lines until the worker has gone.
fn read(output: ChildStdout, lines: &Lines) {
    let mut output = BufReader::new(output);
    let mut text = String::new();
    while output.read_line(&mut text).is_ok_and(|length| length > 0) {
        if let Ok(line) = serde_json::from_str(text.trim_end()) {
            lines.push(line);
        }
        text.clear();
    }
    let _rest = output.read_to_string(&mut text);
}

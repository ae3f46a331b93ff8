//! Frees the memory of the cells that a `clear` has made dead.
//!
//! Dead cells answer nobody, fills of the same keys replace them, and they expire with the lives that they had. So
//! the sweep may take its time, and may leave some of them:
//!
//! - One sweep of a handle looks for the cells of all tenants that were cleared before it began, and one sweep of
//!   all processes runs at a time.
//! - It pauses for nine times as long as each trip takes, so it has a tenth of the server's time at most.
//! - It ends once it has found too few dead cells among the keys that it looked at, as the server's own search for
//!   expired keys does. SCAN returns keys in the order of their hashes, so the keys behind it are no others. The
//!   cost of a clear grows with the cells that it made dead, and not with the keys of others.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, Value};
use terrace_tier::Result;
use tokio::time::{Instant, sleep};

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, NAME, server_error, unexpected_reply},
    namespace::{NamespaceState, cells_of, sweep_lock},
    scripts::{Call, Script, ScriptCall, random_number},
};

/// The keys that one SCAN looks at.
const PAGE: usize = 256;
/// The most cells that one script unlinks: a fraction of a millisecond of the server's time.
const UNLINKS: usize = 64;
const PAGE_BUDGET: Duration = Duration::from_secs(1);
/// Clears that come within this time share a sweep.
const GATHER: Duration = Duration::from_millis(200);
/// A pause is so many times as long as the trip before it, within these bounds.
const PAUSE_PER_TRIP: u32 = 9;
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// The keys that a sweep looks at in any case: some milliseconds of the server's time.
const LOOKS: usize = 16_384;
/// The keys that it looks at for each cell that it frees. Freeing a cell then costs the server about as much as
/// filling it did, and what stays is less than one key in a hundred.
const LOOKS_PER_FREED: usize = 100;
/// The most owners of cells that wait for a sweep. The dead cells of others expire.
const MAX_WAITING: usize = 100_000;
/// How long the mark of a sweep outlives the process that sweeps.
const LOCK_TTL: Duration = Duration::from_secs(5);
const LOCK_RENEWAL: Duration = Duration::from_secs(1);

/// The sweeps of a handle.
pub(crate) struct Reclaimer {
    lock: Bytes,
    queue: Mutex<SweepQueue>,
}

#[derive(Default)]
struct SweepQueue {
    /// The prefixes of the cells that were cleared, each with the epochs of the cells.
    owners: Owners,
    runs: bool,
}

type Owners = HashMap<String, [Bytes; 2]>;

impl Reclaimer {
    pub(crate) fn new(prefix: &str) -> Arc<Self> {
        Arc::new(Self { lock: sweep_lock(prefix), queue: Mutex::default() })
    }

    /// Has the dead cells of `states` freed in the background.
    pub(super) fn reclaim(
        self: &Arc<Self>,
        manager: &Arc<ConnectionManager>,
        states: &[Arc<NamespaceState>],
    ) {
        let mut queue = self.queue.lock();
        for layout in states.iter().map(|state| &state.layout) {
            if queue.owners.len() < MAX_WAITING {
                queue.owners.insert(layout.cells().to_owned(), layout.epochs());
            }
        }
        if !std::mem::replace(&mut queue.runs, true) {
            let (reclaimer, manager) = (Arc::downgrade(self), Arc::downgrade(manager));
            tokio::spawn(Sweeper { reclaimer, manager, mark: random_number(), ended: false }.run());
        }
    }

    /// What the next sweep looks for. Without anything to look for, the task ends.
    fn next_owners(&self) -> Option<Owners> {
        let mut queue = self.queue.lock();
        queue.runs = !queue.owners.is_empty();
        queue.runs.then(|| std::mem::take(&mut queue.owners))
    }
}

/// The task. It holds strong references for one trip at a time, so it ends with its handle.
struct Sweeper {
    reclaimer: Weak<Reclaimer>,
    manager: Weak<ConnectionManager>,
    /// The value of the lock while this task has it.
    mark: Bytes,
    ended: bool,
}

impl Sweeper {
    async fn run(mut self) {
        loop {
            sleep(GATHER).await;
            let Some(reclaimer) = self.reclaimer.upgrade() else { return };
            let Some(owners) = reclaimer.next_owners() else {
                self.ended = true;
                return;
            };
            let lock = reclaimer.lock.clone();
            drop(reclaimer);
            if let Err(error) = self.sweep(&owners, &lock).await {
                let Some(manager) = self.manager.upgrade() else { return };
                let (cache, what) =
                    (manager.namespaces.names(), "cannot free the memory of dead cells; they expire later");
                tracing::debug!(%cache, tier = NAME, %error, "{what}");
            }
        }
    }

    /// One pass over the keys of the server.
    async fn sweep(&self, owners: &Owners, lock: &Bytes) -> Result<()> {
        let pattern = pattern_of(owners);
        let (mut cursor, mut looks) = (0, LOOKS);
        let mut locked_at: Option<Instant> = None;
        loop {
            if locked_at.is_none_or(|at| at.elapsed() >= LOCK_RENEWAL) {
                self.lock(lock).await?;
                locked_at = Some(Instant::now());
            }
            let began = Instant::now();
            let Some(manager) = self.manager.upgrade() else { return Ok(()) };
            let (next, found) = scan(&manager, cursor, &pattern).await?;
            drop(manager);
            pause_after(began).await;
            let mut cells: Vec<(&[Bytes; 2], Bytes)> = found
                .into_iter()
                .filter_map(|key| Some((owners.get(cells_of(&key)?)?, key.into())))
                .collect();
            cells.sort_unstable_by_key(|(epochs, _)| *epochs);
            looks = looks.saturating_sub(PAGE);
            for some in cells.chunks(UNLINKS) {
                let began = Instant::now();
                let Some(manager) = self.manager.upgrade() else { return Ok(()) };
                looks += LOOKS_PER_FREED * unlink(&manager, some).await?;
                drop(manager);
                pause_after(began).await;
            }
            cursor = next;
            if cursor == 0 || looks == 0 {
                return Ok(());
            }
        }
    }

    /// Waits until no other process sweeps, and marks that this one does. The mark ends by itself.
    async fn lock(&self, lock: &Bytes) -> Result<()> {
        loop {
            let Some(manager) = self.manager.upgrade() else { return Ok(()) };
            let args = vec![self.mark.clone(), LOCK_TTL.as_millis().to_string().into()];
            let call = Call { script: Script::SweepLock, keys: vec![lock.clone()], args };
            let sent = call.run(&manager, Effect::Read);
            match within(Instant::now() + PAGE_BUDGET, Effect::Read, sent).await? {
                Value::Int(1) => return Ok(()),
                Value::Int(_) => {}
                Value::ServerError(answer) => return Err(server_error(&answer)),
                _ => return Err(unexpected_reply()),
            }
            drop(manager);
            sleep(LOCK_RENEWAL.mul_f64(1.0 + 2.0 * fastrand::f64())).await;
        }
    }
}

impl Drop for Sweeper {
    /// Lets the next clear start a task after this one's runtime has ended.
    fn drop(&mut self) {
        if let Some(reclaimer) = self.reclaimer.upgrade().filter(|_| !self.ended) {
            reclaimer.queue.lock().runs = false;
        }
    }
}

/// A glob for SCAN: what the names of all wanted cells begin with. Escaped names hold no characters of a pattern.
fn pattern_of(owners: &Owners) -> String {
    let mut prefixes = owners.keys();
    let mut common = prefixes.next().map_or("", String::as_str);
    for prefix in prefixes {
        let same = common.char_indices().zip(prefix.chars()).take_while(|((_, a), b)| a == b);
        let end = same.last().map_or(0, |((at, c), _)| at + c.len_utf8());
        common = &common[..end];
    }
    format!("{common}*")
}

async fn scan(manager: &Arc<ConnectionManager>, cursor: u64, pattern: &str) -> Result<(u64, Vec<Vec<u8>>)> {
    let mut scan = Cmd::new();
    scan.arg("SCAN").arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
    let sent = manager.send(&scan, Effect::Read);
    match within(Instant::now() + PAGE_BUDGET, Effect::Read, sent).await? {
        Value::ServerError(answer) => Err(server_error(&answer)),
        page => redis::from_redis_value(page).map_err(|_| unexpected_reply()),
    }
}

/// Unlinks those of the cells that are dead, and returns their number.
async fn unlink(manager: &Arc<ConnectionManager>, cells: &[(&[Bytes; 2], Bytes)]) -> Result<usize> {
    let keys = cells.iter().flat_map(|([own, shared], cell)| [own.clone(), shared.clone(), cell.clone()]);
    let call = Call { script: Script::Reclaim, keys: keys.collect(), args: Vec::new() };
    let sent = call.run(manager, Effect::Read);
    match within(Instant::now() + PAGE_BUDGET, Effect::Read, sent).await? {
        Value::Int(freed) => Ok(usize::try_from(freed).unwrap_or(0)),
        Value::ServerError(answer) => Err(server_error(&answer)),
        _ => Err(unexpected_reply()),
    }
}

/// Leaves the server to others for most of the time. A busy server answers late, and gets a longer pause.
async fn pause_after(began: Instant) {
    sleep((began.elapsed() * PAUSE_PER_TRIP).clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(prefixes: &[&str]) -> String {
        pattern_of(&prefixes.iter().map(|prefix| ((*prefix).to_owned(), Default::default())).collect())
    }

    #[test]
    fn a_sweep_asks_for_what_the_names_of_its_cells_have_in_common() {
        assert_eq!(pattern(&["terrace:users@a:"]), "terrace:users@a:*");
        assert_eq!(pattern(&["terrace:users@a:", "terrace:users@b:", "terrace:users:"]), "terrace:users*");
        assert_eq!(pattern(&["terrace:é:", "terrace:è:", "terrace:$ttl:x:"]), "terrace:*");
    }
}

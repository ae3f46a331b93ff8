//! A directory in memory that loses what was not synced, for tests.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    sync::Arc,
};

use fastrand::Rng;
use parking_lot::{Mutex, MutexGuard};

use crate::directory::{Directory, File, Lock};

/// A call of the seam, so that a test can let it fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is the method of its name")]
pub enum Call {
    Lock,
    List,
    Read,
    Create,
    Append,
    Truncate,
    SyncData,
    Rename,
    Remove,
    Sync,
}

/// A [`Directory`] in memory that loses what was not synced, fails on cue, and tears writes.
///
/// A clone is the same directory. A restart gives the directory to the next process: calls of the handles
/// from before it fail from then on, as those of a process that is gone.
///
/// What a power loss keeps of bytes and names that were not synced is drawn from the seed: nothing, all, or some
/// of it. Names are kept or lost one by one, in any combination. Bytes that are kept may have sectors of
/// zeros among them. After a failed sync the bytes are still shown to readers, but later syncs do not
/// write them, as on Linux (Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020).
#[derive(Clone, Debug)]
pub struct LossyDirectory {
    machine: Arc<Mutex<Machine>>,
    process: u64,
}

#[derive(Debug)]
struct Machine {
    rng: Rng,
    /// Counts restarts. Only handles of the last one work.
    process: u64,
    has_power: bool,
    calls: u64,
    power_until: u64,
    faults: Vec<(Call, io::ErrorKind)>,
    left_out: Vec<Call>,
    capacity: u64,
    is_locked: bool,
    contents: HashMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    /// The changes of names since the last sync: each sets some names at once.
    changes: Vec<Vec<(String, Option<u64>)>>,
}

#[derive(Debug, Default)]
struct Content {
    bytes: Vec<u8>,
    durable: Vec<u8>,
    /// From where on a failed sync has made bytes of no use, and up to where.
    lost: Vec<(usize, usize)>,
}

const SECTOR: usize = 512;

impl LossyDirectory {
    /// An empty directory. Equal seeds lose the same.
    pub fn new(seed: u64) -> Self {
        let machine = Machine {
            rng: Rng::with_seed(seed),
            process: 0,
            has_power: true,
            calls: 0,
            power_until: u64::MAX,
            faults: Vec::new(),
            left_out: Vec::new(),
            capacity: u64::MAX,
            is_locked: false,
            contents: HashMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
        };
        Self { machine: Arc::new(Mutex::new(machine)), process: 0 }
    }

    /// The calls so far.
    pub fn calls(&self) -> u64 {
        self.machine.lock().calls
    }

    /// Cuts the power in the middle of the `nth` call from now, from 1.
    pub fn lose_power_at(&self, nth: u64) {
        let mut machine = self.machine.lock();
        machine.power_until = machine.calls.saturating_add(nth);
    }

    /// Whether the power is still on.
    pub fn has_power(&self) -> bool {
        self.machine.lock().has_power
    }

    /// Lets the next call of the kind fail. An append that fails writes some of its bytes.
    pub fn fail_next(&self, call: Call, error: io::ErrorKind) {
        self.machine.lock().faults.push((call, error));
    }

    /// Lets [`Call::SyncData`] or [`Call::Sync`] do nothing from now on.
    pub fn leave_out(&self, sync: Call) {
        self.machine.lock().left_out.push(sync);
    }

    /// The size of the disk: appends beyond it fail with [`io::ErrorKind::StorageFull`].
    pub fn set_capacity(&self, bytes: u64) {
        self.machine.lock().capacity = bytes;
    }

    /// The bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        self.machine.lock().used_bytes()
    }

    /// Inverts one byte of a file, also on the disk.
    pub fn damage(&self, name: &str, offset: usize) {
        let mut machine = self.machine.lock();
        let Some(content) = machine.content(name) else { return };
        for bytes in [&mut content.bytes, &mut content.durable] {
            bytes.iter_mut().skip(offset).take(1).for_each(|byte| *byte = !*byte);
        }
    }

    /// The directory as the next process finds it after this one was killed: all that was written is there.
    #[must_use]
    pub fn after_kill(&self) -> Self {
        self.machine.lock().restart();
        self.of_next_process()
    }

    /// The directory as the next process finds it after the power failed and came back.
    #[must_use]
    pub fn after_power_loss(&self) -> Self {
        self.machine.lock().lose();
        self.of_next_process()
    }

    fn of_next_process(&self) -> Self {
        Self { machine: Arc::clone(&self.machine), process: self.process + 1 }
    }

    /// Begins a call. The flag says whether the power fails in its middle.
    fn begin(&self, call: Call) -> io::Result<(MutexGuard<'_, Machine>, bool)> {
        let mut machine = self.machine.lock();
        if !machine.has_power || machine.process != self.process {
            return Err(io::Error::other("the process is gone"));
        }
        machine.calls += 1;
        if machine.calls == machine.power_until {
            machine.has_power = false;
            // The call may still be done, or not at all.
            if machine.rng.bool() {
                return Err(power_loss());
            }
            return Ok((machine, true));
        }
        // These two fail by themselves, since they do harm before.
        let fails_here = !matches!(call, Call::Append | Call::SyncData);
        match fails_here.then(|| machine.take_fault(call)).flatten() {
            Some(kind) => Err(kind.into()),
            None => Ok((machine, false)),
        }
    }

    fn change(&self, call: Call, change: impl FnOnce(&mut Machine)) -> io::Result<()> {
        let (mut machine, fails) = self.begin(call)?;
        change(&mut machine);
        answer(fails)
    }
}

fn power_loss() -> io::Error {
    io::Error::other("the power has failed")
}

fn answer(fails: bool) -> io::Result<()> {
    if fails { Err(power_loss()) } else { Ok(()) }
}

impl Machine {
    fn used_bytes(&self) -> u64 {
        self.names
            .values()
            .filter_map(|id| self.contents.get(id))
            .map(|content| content.bytes.len() as u64)
            .sum()
    }

    fn content(&mut self, name: &str) -> Option<&mut Content> {
        let id = self.names.get(name)?;
        self.contents.get_mut(id)
    }

    fn take_fault(&mut self, call: Call) -> Option<io::ErrorKind> {
        let at = self.faults.iter().position(|(of, _)| *of == call)?;
        Some(self.faults.remove(at).1)
    }

    fn set_names(&mut self, change: Vec<(String, Option<u64>)>) {
        set(&mut self.names, &change);
        self.changes.push(change);
    }

    fn restart(&mut self) {
        self.process += 1;
        (self.has_power, self.is_locked, self.power_until) = (true, false, u64::MAX);
        self.faults.clear();
    }

    fn lose(&mut self) {
        self.restart();
        let Self { rng, contents, durable_names, changes, .. } = self;
        contents.values_mut().for_each(|content| content.lose(rng));
        let mode = rng.u8(0..4);
        for change in changes.drain(..) {
            let is_kept = match mode {
                0 => false,
                1 => true,
                _ => rng.bool(),
            };
            if is_kept {
                set(durable_names, &change);
            }
        }
        self.names = self.durable_names.clone();
    }
}

fn set(names: &mut BTreeMap<String, u64>, change: &[(String, Option<u64>)]) {
    for (name, id) in change {
        match id {
            Some(id) => drop(names.insert(name.clone(), *id)),
            None => drop(names.remove(name)),
        }
    }
}

impl Content {
    /// What a sync now makes durable.
    fn written(&self) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (from, to) in &self.lost {
            let to = (*to).min(bytes.len());
            bytes.get_mut(*from..to).into_iter().for_each(|lost| lost.fill(0));
        }
        bytes
    }

    fn lose(&mut self, rng: &mut Rng) {
        let (written, durable) = (self.written(), self.durable.len());
        let kept = match rng.u8(0..4) {
            0 => self.durable.clone(),
            1 => written,
            _ if written.len() > durable => torn(written, durable, rng),
            _ => self.durable.clone(),
        };
        *self = Self { bytes: kept.clone(), durable: kept, lost: Vec::new() };
    }
}

/// Some of the bytes after `durable`, some of whose sectors were never written.
fn torn(mut bytes: Vec<u8>, durable: usize, rng: &mut Rng) -> Vec<u8> {
    bytes.truncate(rng.usize(durable..=bytes.len()));
    let mut from = durable;
    while from < bytes.len() {
        let to = ((from / SECTOR + 1) * SECTOR).min(bytes.len());
        if rng.u8(0..4) == 0 {
            bytes[from..to].fill(0);
        }
        from = to;
    }
    bytes
}

impl Directory for LossyDirectory {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        let (mut machine, fails) = self.begin(Call::Lock)?;
        if machine.is_locked {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        machine.is_locked = true;
        answer(fails)?;
        Ok(Box::new(LossyLock(self.clone())))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let (machine, fails) = self.begin(Call::List)?;
        answer(fails)?;
        Ok(machine.names.keys().cloned().collect())
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let (mut machine, fails) = self.begin(Call::Read)?;
        answer(fails)?;
        let content = machine.content(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(content.bytes.clone())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let (mut machine, fails) = self.begin(Call::Create)?;
        let id = match machine.names.get(name) {
            Some(id) => *id,
            None => {
                let id = machine.contents.len() as u64;
                machine.set_names(vec![(name.to_owned(), Some(id))]);
                id
            }
        };
        machine.contents.entry(id).or_default().bytes.clear();
        answer(fails)?;
        drop(machine);
        Ok(Box::new(LossyFile { directory: self.clone(), id }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(Call::Rename, |machine| {
            let id = machine.names.get(from).copied();
            machine.set_names(vec![(from.to_owned(), None), (to.to_owned(), id)]);
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(Call::Remove, |machine| machine.set_names(vec![(name.to_owned(), None)]))
    }

    fn sync(&self) -> io::Result<()> {
        self.change(Call::Sync, |machine| {
            if !machine.left_out.contains(&Call::Sync) {
                machine.durable_names = machine.names.clone();
                machine.changes.clear();
            }
        })
    }
}

#[derive(Debug)]
struct LossyFile {
    directory: LossyDirectory,
    id: u64,
}

impl File for LossyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (mut machine, fails) = self.directory.begin(Call::Append)?;
        let space = machine.capacity.saturating_sub(machine.used_bytes());
        let is_full = bytes.len() as u64 > space;
        let error = machine.take_fault(Call::Append).or(is_full.then_some(io::ErrorKind::StorageFull));
        let written = match error {
            Some(_) => machine.rng.usize(0..=bytes.len().min(usize::try_from(space).unwrap_or(usize::MAX))),
            None => bytes.len(),
        };
        machine.contents.entry(self.id).or_default().bytes.extend_from_slice(&bytes[..written]);
        match error {
            Some(kind) => Err(kind.into()),
            None => answer(fails),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        let id = self.id;
        self.directory.change(Call::Truncate, |machine| {
            let content = machine.contents.entry(id).or_default();
            content.bytes.truncate(usize::try_from(len).unwrap_or(usize::MAX));
            let len = content.bytes.len();
            content.lost.retain(|(from, _)| *from < len);
        })
    }

    fn sync_data(&mut self) -> io::Result<()> {
        let (mut machine, fails) = self.directory.begin(Call::SyncData)?;
        let error = machine.take_fault(Call::SyncData);
        let is_left_out = machine.left_out.contains(&Call::SyncData);
        let content = machine.contents.entry(self.id).or_default();
        if let Some(kind) = error {
            content.lost.push((content.durable.len().min(content.bytes.len()), content.bytes.len()));
            return Err(kind.into());
        }
        if !is_left_out {
            content.durable = content.written();
        }
        answer(fails)
    }
}

#[derive(Debug)]
struct LossyLock(LossyDirectory);

impl Lock for LossyLock {}

impl Drop for LossyLock {
    fn drop(&mut self) {
        let mut machine = self.0.machine.lock();
        if machine.process == self.0.process {
            machine.is_locked = false;
        }
    }
}

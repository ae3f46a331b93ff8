//! The callers of one process: they carry out the steps of a plan and record the results.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_conformance::PlainNear;
use terrace_core::{BoxError, Cache, Cached, Level, MissingKeys, Result, Version};
use tokio::time::sleep;

use crate::{
    history::{At, End, Fact, Key, Newness, Process, Read, Wish},
    judge::GRAIN,
    plan::{Act, LoaderPace, Stack},
    recorder::Recorder,
};

/// The cache of a simulated process.
pub(crate) type SimulatedCache = Cache<u64, u64, PlainNear>;

/// What the callers of a process share, from its start to its death.
pub(crate) struct Client {
    pub(crate) process: Process,
    pub(crate) slot: usize,
    pub(crate) processes: usize,
    pub(crate) keys: u64,
    pub(crate) stack: Stack,
    pub(crate) cache: SimulatedCache,
    pub(crate) near: PlainNear,
    pub(crate) recorder: Arc<Recorder>,
    /// Keys with a change under way: one caller at a time changes a key of the origin.
    pub(crate) busy: Vec<AtomicBool>,
    /// How many milliseconds the process has run.
    pub(crate) awake: AtomicU64,
    /// Calls under way, by a number.
    pub(crate) open: Mutex<BTreeMap<u64, Key>>,
}

/// How a read is to be recorded.
#[derive(Clone, Copy)]
struct ReadIntent {
    call: At,
    loads: bool,
    anew: bool,
    newness: Newness,
}

/// The handle that a step uses, and how new its answers must be.
struct ReadHandle {
    cache: SimulatedCache,
    newness: Newness,
}

impl Client {
    pub(crate) async fn act(self: Arc<Self>, act: Act, level: Option<Level>) {
        let (key, began) = (act.key(), self.awake.load(Ordering::Relaxed));
        let number = self.begin(key);
        Arc::clone(&self).carry_out_act(act, level).await;
        self.open.lock().remove(&number);
        let took = self.awake.load(Ordering::Relaxed) - began;
        self.recorder.took(Duration::from_millis(took), key);
    }

    fn begin(&self, key: Key) -> u64 {
        let mut open = self.open.lock();
        let number = open.last_key_value().map_or(0, |(last, _)| last + 1);
        open.insert(number, key);
        number
    }

    async fn carry_out_act(self: Arc<Self>, act: Act, level: Option<Level>) {
        let handle = self.handle(level);
        match act {
            Act::Get(key) => {
                let intent = self.ask(&handle, false);
                let got = handle.cache.get(&key).await;
                self.read(intent, key, got);
            }
            Act::Load(key, pace) => self.load(&handle, key, pace).await,
            Act::Refresh(key, pace) => {
                let intent = ReadIntent { anew: true, ..self.ask(&handle, true) };
                let got = handle.cache.refresh(&key, |_| self.loader(key, pace)).await;
                self.read(intent, key, got);
            }
            Act::GetMany(from, to) => {
                let (intent, keys) = (self.ask(&handle, false), (from..to).collect::<Vec<_>>());
                let many = handle.cache.get_many(&keys).await;
                keys.into_iter().zip(many).for_each(|(key, got)| self.read(intent, key, got));
            }
            Act::LoadMany(from, to, pace) => self.load_many(&handle, from, to, pace).await,
            Act::Put(key) => self.change(key, Wish::Put(0)).await,
            Act::PutIfAbsent(key) => self.change(key, Wish::PutIfAbsent(0)).await,
            Act::Replace(key) => self.change(key, Wish::Replace(0, 0)).await,
            Act::Invalidate(key) => self.change(key, Wish::Invalidate).await,
            Act::Remove(key) => self.change(key, Wish::Remove).await,
            Act::InvalidateMany(from, to) => self.invalidate_many(from, to).await,
            Act::Clear => self.clear().await,
            Act::Expire(key, millis) => self.expire(key, millis).await,
            Act::Forget(key) => self.near.forget(key),
        }
    }

    fn handle(&self, level: Option<Level>) -> ReadHandle {
        let Some(level) = level else {
            return ReadHandle { cache: self.cache.clone(), newness: Newness::Built };
        };
        ReadHandle { cache: self.cache.with(level), newness: newness(self.stack.level, level) }
    }

    fn ask(&self, handle: &ReadHandle, loads: bool) -> ReadIntent {
        ReadIntent { call: self.recorder.now(), loads, anew: false, newness: handle.newness }
    }

    fn read(&self, intent: ReadIntent, key: Key, got: Result<Option<Cached<u64>>>) {
        let Ok(got) = got else {
            return self.recorder.count(|counts| counts.failed_reads += 1);
        };
        let ReadIntent { call, loads, anew, newness: asked } = intent;
        let read =
            |ret| Read { anew, loads, asked, ..Read::answered(self.process, key, (call, ret), got.as_ref()) };
        let stale = read(call).stale;
        self.recorder.count(|counts| {
            counts.stale_reads += u64::from(stale);
            counts.other_levels += u64::from(asked != Newness::Built);
        });
        self.recorder.read(read);
    }

    fn writes(&self, key: Option<Key>, wish: Wish) -> usize {
        self.recorder.writes(self.process, key, wish)
    }

    /// A load; over a store it also writes the value that it offers, where there is no record.
    async fn load(&self, handle: &ReadHandle, key: Key, pace: LoaderPace) {
        let intent = self.ask(handle, true);
        let offered = Arc::new(Mutex::new(None));
        let load = |_| {
            let (load, offered) = (self.loader(key, pace), Arc::clone(&offered));
            let (recorder, process, stored) = (Arc::clone(&self.recorder), self.process, self.stack.store);
            async move {
                recorder.loads(key);
                let value = load.await?;
                *offered.lock() = value
                    .filter(|_| stored)
                    .map(|value| (value, recorder.writes(process, Some(key), Wish::Create(value))));
                Ok::<_, BoxError>(value)
            }
        };
        let got = handle.cache.get_or_load_with(&key, load).await;
        if let Some((value, write)) = offered.lock().take() {
            let end = match &got {
                Ok(Some(got)) if **got == value => End::Done,
                Ok(_) => End::Refused,
                Err(_) => End::Unknown,
            };
            self.recorder.wrote(write, end);
        }
        self.read(intent, key, got);
    }

    /// A loader of the origin; over a store, a loader that offers a new value each time.
    fn loader(
        &self,
        key: Key,
        pace: LoaderPace,
    ) -> impl Future<Output = Result<Option<u64>, BoxError>> + Send + use<> {
        let (recorder, stored) = (Arc::clone(&self.recorder), self.stack.store);
        async move {
            let look = || if stored { Some(recorder.offer()) } else { recorder.origin(key) };
            let value = match pace {
                LoaderPace::Early(millis) => {
                    let value = look();
                    pause(millis).await;
                    value
                }
                LoaderPace::Late(millis) => {
                    pause(millis).await;
                    look()
                }
                LoaderPace::Fails(millis) => {
                    pause(millis).await;
                    return Err("the origin is away".into());
                }
            };
            if let Some(value) = value {
                recorder.fact(Fact::Obtained { value });
            }
            Ok(value)
        }
    }

    async fn load_many(&self, handle: &ReadHandle, from: u64, to: u64, pace: LoaderPace) {
        let (intent, keys) = (self.ask(handle, true), (from..to).collect::<Vec<_>>());
        let load = |missing: MissingKeys<u64>| {
            let loads = missing.keys().iter().map(|&key| {
                let load = self.loader(key, pace);
                async move { load.await.map(|item| (key, item)) }
            });
            futures_util::future::try_join_all(loads.collect::<Vec<_>>())
        };
        let many = handle.cache.get_or_load_many(&keys, load).await;
        keys.into_iter().zip(many).for_each(|(key, got)| self.read(intent, key, got));
    }

    /// A change of one key. Where there is an origin, the key's owner changes the origin first, one change
    /// after the other; other processes only drop copies.
    async fn change(&self, key: Key, wish: Wish) {
        if self.stack.store {
            return self.write(key, wish, None).await;
        }
        if key as usize % self.processes != self.slot {
            return self.write(key, Wish::Invalidate, None).await;
        }
        let busy = &self.busy[key as usize];
        if busy.swap(true, Ordering::Relaxed) {
            return;
        }
        let value = self.recorder.change_origin(key, !matches!(wish, Wish::Remove));
        self.write(key, wish, value).await;
        busy.store(false, Ordering::Relaxed);
    }

    /// Changes the keys that the process owns in the origin, if no other call of it does so now, and clears
    /// the cache: nothing else tells the other processes of these changes.
    async fn clear(&self) {
        let owned = (0..self.keys).filter(|key| *key as usize % self.processes == self.slot);
        let free =
            owned.filter(|key| !self.stack.store && !self.busy[*key as usize].swap(true, Ordering::Relaxed));
        let changed: Vec<Key> = free.collect();
        changed.iter().for_each(|key| _ = self.recorder.change_origin(*key, true));
        let write = self.writes(None, Wish::Invalidate);
        let cleared = self.cache.clear().await;
        self.recorder.wrote(write, End::of(cleared.map(|()| true)));
        changed.iter().for_each(|key| self.busy[*key as usize].store(false, Ordering::Relaxed));
    }

    async fn write(&self, key: Key, wish: Wish, value: Option<u64>) {
        let new = || value.unwrap_or_else(|| self.recorder.new_value());
        // A conditional put begins with a read, which is recorded as a read.
        let seen = match wish {
            Wish::Replace(..) => {
                let intent = self.ask(&self.handle(None), false);
                let got = self.cache.get(&key).await;
                let seen =
                    got.as_ref().ok().and_then(Option::as_ref).map(|got| (**got, got.served().version));
                self.read(intent, key, got);
                seen
            }
            _ => None,
        };
        let (wish, version) = match (wish, seen) {
            (Wish::Put(_), _) => (Wish::Put(new()), None),
            (Wish::PutIfAbsent(_), _) => (Wish::PutIfAbsent(new()), None),
            (Wish::Replace(..), Some((seen, version))) => (Wish::Replace(seen, new()), Some(version)),
            (Wish::Replace(..), None) => (Wish::Put(new()), None),
            (wish, _) => (wish, None),
        };
        let write = self.writes(Some(key), wish);
        let end = self.carry_out(key, wish, version).await;
        self.recorder.wrote(write, end);
        // A copy of the origin's value before this change may be the reason.
        if !self.stack.store && end == End::Refused {
            let write = self.writes(Some(key), Wish::Invalidate);
            let end = End::of(self.cache.invalidate(&key).await);
            self.recorder.wrote(write, end);
        }
    }

    async fn carry_out(&self, key: Key, wish: Wish, version: Option<Version>) -> End {
        let put = |value: u64| {
            self.recorder.fact(Fact::Obtained { value });
            value
        };
        let held = match wish {
            Wish::Put(value) => self.cache.put(&key, put(value)).await.map(|_| true),
            Wish::PutIfAbsent(value) => self.cache.put_if_absent(&key, put(value)).await,
            Wish::Replace(_, value) => {
                self.cache.replace(&key, version.unwrap_or_default(), put(value)).await
            }
            Wish::Remove => self.cache.remove(&key).await.map(|_| true),
            Wish::Invalidate | Wish::Create(_) => self.cache.invalidate(&key).await.map(|_| true),
        };
        End::of(held)
    }

    async fn invalidate_many(&self, from: u64, to: u64) {
        let keys: Vec<Key> = (from..to).collect();
        let writes: Vec<usize> = keys.iter().map(|&key| self.writes(Some(key), Wish::Invalidate)).collect();
        let results = self.cache.invalidate_many(&keys).await;
        for (write, result) in writes.into_iter().zip(results) {
            self.recorder.wrote(write, End::of(result.map(|_| true)));
        }
    }

    async fn expire(&self, key: Key, millis: u64) {
        // The end of a record would be a change that no server reports.
        let millis = if self.stack.store { 3_600_000 } else { millis };
        let until = At(self.recorder.now().0 + millis * 1_000_000);
        self.recorder.fact(Fact::Extended { key, until });
        // The result does not matter: later reads show what it did.
        let _ = self.cache.expire(&key, Duration::from_millis(millis)).await;
    }

    /// After the faults, reads every key once more, or the first ones, and again after a refresh.
    pub(crate) async fn read_all(self: Arc<Self>) {
        let keys = 0..self.keys.min(MOST_READ);
        for key in keys.clone() {
            Arc::clone(&self).act(Act::Get(key), None).await;
            if !self.stack.is_linear() {
                Arc::clone(&self).act(Act::Refresh(key, LoaderPace::Late(0)), None).await;
            }
        }
        if !self.stack.is_linear() {
            // Copies are filled in the background.
            pause(FILLED_WITHIN).await;
            for key in keys {
                Arc::clone(&self).act(Act::Get(key), None).await;
            }
        }
    }
}

/// What docs/consistency.md promises of reads at one level in a cache that was built at another. Reads
/// that the cache refuses get the strictest check.
fn newness(built: Level, asked: Level) -> Newness {
    match (built, asked) {
        (_, Level::Ttl) => Newness::Life,
        (_, Level::Fenced) => Newness::Heard,
        (Level::Bounded(_), Level::Bounded(bound)) => Newness::Within(bound + GRAIN),
        _ => Newness::Truth,
    }
}

/// Keys that are read once more at the end: all keys of a random plan.
const MOST_READ: u64 = 64;

/// How long the fills of a refresh take, in milliseconds.
const FILLED_WITHIN: u64 = 60;

async fn pause(millis: u64) {
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

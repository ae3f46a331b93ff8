//! One process's callers: they carry out the steps of a plan and write down what came of them.

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

/// The caches that a run is about.
pub(crate) type Stacked = Cache<u64, u64, PlainNear>;

/// What the callers of one life of a process share.
pub(crate) struct Client {
    pub(crate) process: Process,
    pub(crate) slot: usize,
    pub(crate) processes: usize,
    pub(crate) keys: u64,
    pub(crate) stack: Stack,
    pub(crate) cache: Stacked,
    pub(crate) near: PlainNear,
    pub(crate) recorder: Arc<Recorder>,
    /// Keys of which a change is under way: an origin is changed by one caller at a time.
    pub(crate) busy: Vec<AtomicBool>,
    /// How many milliseconds this life has run.
    pub(crate) awake: AtomicU64,
    /// Calls under way, by a number.
    pub(crate) open: Mutex<BTreeMap<u64, Key>>,
}

/// How a read is to be written down.
#[derive(Clone, Copy)]
struct Asked {
    call: At,
    loads: bool,
    anew: bool,
    newness: Newness,
}

/// The handle by which a step reads, and what that asks for.
struct Via {
    cache: Stacked,
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
        let via = self.via(level);
        match act {
            Act::Get(key) => {
                let asked = self.ask(&via, false);
                let got = via.cache.get(&key).await;
                self.read(asked, key, got);
            }
            Act::Load(key, pace) => self.load(&via, key, pace).await,
            Act::Refresh(key, pace) => {
                let asked = Asked { anew: true, ..self.ask(&via, true) };
                let got = via.cache.refresh(&key, |_| self.loader(key, pace)).await;
                self.read(asked, key, got);
            }
            Act::GetMany(from, to) => {
                let (asked, keys) = (self.ask(&via, false), (from..to).collect::<Vec<_>>());
                let many = via.cache.get_many(&keys).await;
                keys.into_iter().zip(many).for_each(|(key, got)| self.read(asked, key, got));
            }
            Act::LoadMany(from, to, pace) => self.load_many(&via, from, to, pace).await,
            Act::Put(key) => self.change(key, Wish::Put(0)).await,
            Act::PutIfAbsent(key) => self.change(key, Wish::PutIfAbsent(0)).await,
            Act::Replace(key) => self.change(key, Wish::Replace(0, 0)).await,
            Act::Invalidate(key) => self.change(key, Wish::Invalidate).await,
            Act::Remove(key) => self.change(key, Wish::Remove).await,
            Act::InvalidateMany(from, to) => self.invalidate_many(from, to).await,
            Act::Clear => {
                let write = self.writes(None, Wish::Invalidate);
                let cleared = self.cache.clear().await;
                self.recorder.wrote(write, End::of(cleared.map(|()| true)));
            }
            Act::Expire(key, millis) => self.expire(key, millis).await,
            Act::Forget(key) => self.near.forget(key),
        }
    }

    fn via(&self, level: Option<Level>) -> Via {
        let Some(level) = level else {
            return Via { cache: self.cache.clone(), newness: Newness::Built };
        };
        Via { cache: self.cache.with(level), newness: newness(self.stack.level, level) }
    }

    fn ask(&self, via: &Via, loads: bool) -> Asked {
        Asked { call: self.recorder.now(), loads, anew: false, newness: via.newness }
    }

    fn read(&self, asked: Asked, key: Key, got: Result<Option<Cached<u64>>>) {
        let Ok(got) = got else {
            return self.recorder.count(|counts| counts.failed_reads += 1);
        };
        let Asked { call, loads, anew, newness: asked } = asked;
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

    /// A load; over a store it is also a write of what it offers, where nothing is there.
    async fn load(&self, via: &Via, key: Key, pace: LoaderPace) {
        let asked = self.ask(via, true);
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
        let got = via.cache.get_or_load_with(&key, load).await;
        if let Some((value, write)) = offered.lock().take() {
            let end = match &got {
                Ok(Some(got)) if **got == value => End::Done,
                Ok(_) => End::Refused,
                Err(_) => End::Unknown,
            };
            self.recorder.wrote(write, end);
        }
        self.read(asked, key, got);
    }

    /// A loader of the origin; over a store, one that has something new to offer each time.
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

    async fn load_many(&self, via: &Via, from: u64, to: u64, pace: LoaderPace) {
        let (asked, keys) = (self.ask(via, true), (from..to).collect::<Vec<_>>());
        let load = |missing: MissingKeys<u64>| {
            let loads = missing.keys().iter().map(|&key| {
                let load = self.loader(key, pace);
                async move { load.await.map(|item| (key, item)) }
            });
            futures_util::future::try_join_all(loads.collect::<Vec<_>>())
        };
        let many = via.cache.get_or_load_many(&keys, load).await;
        keys.into_iter().zip(many).for_each(|(key, got)| self.read(asked, key, got));
    }

    /// A change of one key. Where there is an origin, its owner changes that first, one change
    /// after the other; others only drop copies.
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

    async fn write(&self, key: Key, wish: Wish, value: Option<u64>) {
        let new = || value.unwrap_or_else(|| self.recorder.new_value());
        // A conditional put begins with a read, which is a read of its own.
        let seen = match wish {
            Wish::Replace(..) => {
                let asked = self.ask(&self.via(None), false);
                let got = self.cache.get(&key).await;
                let seen =
                    got.as_ref().ok().and_then(Option::as_ref).map(|got| (**got, got.served().version));
                self.read(asked, key, got);
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
        // A copy of what the origin had before may have been in the way.
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
        // A record that ended would be a change that no server tells of.
        let millis = if self.stack.store { 3_600_000 } else { millis };
        let until = At(self.recorder.now().0 + millis * 1_000_000);
        self.recorder.fact(Fact::Extended { key, until });
        // Whatever comes of it: it is judged by what is read.
        let _ = self.cache.expire(&key, Duration::from_millis(millis)).await;
    }

    /// One more read of every key, or of the first ones, once all is well, and another one after a refresh.
    pub(crate) async fn read_all(self: Arc<Self>) {
        let keys = 0..self.keys.min(MOST_READ);
        for key in keys.clone() {
            Arc::clone(&self).act(Act::Get(key), None).await;
            if !self.stack.is_linear() {
                Arc::clone(&self).act(Act::Refresh(key, LoaderPace::Late(0)), None).await;
            }
        }
        if !self.stack.is_linear() {
            // Copies are filled off the caller's path.
            pause(FILLED_WITHIN).await;
            for key in keys {
                Arc::clone(&self).act(Act::Get(key), None).await;
            }
        }
    }
}

/// What docs/consistency.md promises of reads at a level in a cache that was built at another; reads
/// that are refused are held to whatever is the most.
fn newness(built: Level, asked: Level) -> Newness {
    match (built, asked) {
        (_, Level::Ttl) => Newness::Life,
        (_, Level::Fenced) => Newness::Heard,
        (Level::Bounded(_), Level::Bounded(bound)) => Newness::Within(bound + GRAIN),
        _ => Newness::Truth,
    }
}

/// Keys that are read once more at the end: enough for all that a random plan has.
const MOST_READ: u64 = 64;

/// How long the fills of a refresh take, in milliseconds.
const FILLED_WITHIN: u64 = 60;

async fn pause(millis: u64) {
    if millis > 0 {
        sleep(Duration::from_millis(millis)).await;
    }
}

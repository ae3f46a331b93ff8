//! The callers of a worker: what they read.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};
use std::time::Duration;

use fastrand::Rng;
use sqlx::PgPool;
use terrace::{BoxError, Cache, Cached, Result};
use terrace_simulation::history::{At, End, From, Process, Read, Wish};
use tokio::time::sleep;

use super::{Place, caches, say};
use crate::real::{
    plan::Plan,
    record::{Line, now},
};

/// What the callers of a worker share.
pub(super) struct Client {
    pub(super) process: Process,
    pub(super) plan: Plan,
    pub(super) cache: Cache<i64, u64>,
    /// The connection to the table behind the loader, where there is one.
    pub(super) table: PgPool,
    /// Values and writes, numbered; a value carries the process as well.
    numbers: AtomicU64,
}

impl Client {
    pub(super) fn new(place: &Place) -> std::result::Result<Self, BoxError> {
        Ok(Self {
            process: place.process,
            plan: place.plan.clone(),
            cache: caches::build(place)?,
            table: caches::pool(place)?,
            numbers: AtomicU64::new(0),
        })
    }

    pub(super) async fn ready(&self) -> Result<()> {
        self.cache.ready().await.map(drop)
    }

    /// A number that no other process of the round uses.
    pub(super) fn number(&self) -> u64 {
        u64::from(self.process) << 32 | self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// One caller: it makes one call after the other, until all callers are told to stop.
    pub(super) async fn call(self: Arc<Self>, caller: u64, mut rng: Rng, quiet: Arc<AtomicBool>) {
        while !quiet.load(Ordering::Relaxed) {
            say(&Line::Begins { process: self.process, caller, at: now() });
            self.act(&mut rng).await;
            match rng.u8(..4) {
                0 => sleep(Duration::from_micros(rng.u64(..3_000))).await,
                _ => tokio::task::yield_now().await,
            }
        }
    }

    async fn act(&self, rng: &mut Rng) {
        let any = rng.i64(0..self.plan.keys as i64);
        let to = rng.i64(any..self.plan.keys as i64) + 1;
        if rng.u8(..100) < self.plan.writes {
            return self.write(any, rng).await;
        }
        match rng.u8(..100) {
            0..82 => {
                for _ in 0..4 {
                    self.get(rng.i64(0..self.plan.keys as i64)).await;
                }
            }
            82..88 => self.get_many((any..to).collect()).await,
            _ => self.load(any, rng.u64(..8)).await,
        }
    }

    pub(super) async fn get(&self, key: i64) -> Option<Cached<u64>> {
        let call = now();
        let got = self.cache.get(&key).await;
        self.read(call, key, false, &got);
        got.ok().flatten()
    }

    async fn get_many(&self, keys: Vec<i64>) {
        let call = now();
        let many = self.cache.get_many(&keys).await;
        keys.into_iter().zip(many).for_each(|(key, got)| self.read(call, key, false, &got));
    }

    /// A load that takes some milliseconds. Over a store it offers a new value, which becomes the record
    /// where there is none; without a store it reads the table.
    async fn load(&self, key: i64, pace: u64) {
        if !self.plan.stack.has_store() {
            return self.load_row(key, pace).await;
        }
        let call = now();
        let value = self.number();
        let offer = Arc::new(AtomicBool::new(false));
        let (offered, process) = (Arc::clone(&offer), self.process);
        let got = self
            .cache
            .get_or_load_with(&key, move |_| async move {
                sleep(Duration::from_millis(pace)).await;
                offered.store(true, Ordering::Relaxed);
                let wish = Wish::Create(value);
                say(&Line::Writes { process, id: value, key: Some(key as u64), call: now(), wish });
                Ok::<_, BoxError>(Some(value))
            })
            .await;
        if offer.load(Ordering::Relaxed) {
            let end = match &got {
                Ok(Some(got)) if **got == value => End::Done,
                Ok(_) => End::Refused,
                Err(_) => End::Unknown,
            };
            self.wrote(value, end, false, None);
        }
        self.read(call, key, true, &got);
    }

    async fn load_row(&self, key: i64, pace: u64) {
        let call = now();
        let table = self.table.clone();
        let load = move |_| async move {
            let value = sqlx::query_scalar("SELECT value FROM origin WHERE id = $1").bind(key);
            let value: i64 = value.fetch_one(&table).await?;
            // The value is given late: the table may have changed since.
            sleep(Duration::from_millis(pace)).await;
            Ok::<_, sqlx::Error>(Some(value as u64))
        };
        let got = self.cache.get_or_load_with(&key, load).await;
        self.read(call, key, true, &got);
    }

    fn read(&self, call: At, key: i64, loads: bool, got: &Result<Option<Cached<u64>>>) {
        let ret = now();
        let Ok(got) = got else { return say(&Line::ReadFailed) };
        let read = Read::answered(self.process, key as u64, (call, ret), got.as_ref());
        // An answer that only the truth can have given was true at the call, or later.
        let of_truth = if self.plan.stack.has_store() { From::Store } else { From::Loader };
        let anew = read.from == of_truth && !read.joined;
        say(&Line::Read(Read { anew, loads, ..read }));
    }

    /// Reads every key once more, after the faults.
    pub(super) async fn read_all(&self) {
        for key in 0..self.plan.keys as i64 {
            self.get(key).await;
        }
    }
}

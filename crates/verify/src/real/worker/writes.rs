//! The callers of a worker: what they write.

use fastrand::Rng;
use terrace::Version;
use terrace_simulation::history::{End, Wish};

use super::{client::Client, say};
use crate::real::record::{Line, now};

/// A write that began, and how often a cache tier had failed until then.
struct Begun {
    id: u64,
    failures: u64,
}

impl Client {
    /// A random write.
    pub(super) async fn write(&self, key: i64, rng: &mut Rng) {
        match rng.u8(..100) {
            99 if rng.u8(..8) == 0 => self.clear().await,
            87.. => self.drop_key(key, Wish::Invalidate).await,
            // The application tells its cache of half of its changes of the table.
            _ if !self.plan.stack.has_store() => {
                if self.change_row(key).await && rng.bool() {
                    self.drop_key(key, Wish::Invalidate).await;
                }
            }
            0..45 => self.put(key, Wish::Put(self.number()), None).await,
            45..58 => self.put(key, Wish::PutIfAbsent(self.number()), None).await,
            58..77 => self.replace(key).await,
            _ => self.drop_key(key, Wish::Remove).await,
        }
    }

    /// An UPDATE as any program may make it. Returns whether it was acknowledged.
    async fn change_row(&self, key: i64) -> bool {
        let value = self.number();
        let update = sqlx::query("UPDATE origin SET value = $2 WHERE id = $1").bind(key).bind(value as i64);
        let stored = update.execute(&self.table).await.is_ok();
        if stored {
            say(&Line::Stored { value, ret: now() });
        }
        stored
    }

    async fn replace(&self, key: i64) {
        let Some(seen) = self.get(key).await else { return };
        let version = seen.served().version;
        self.put(key, Wish::Replace(*seen, self.number()), Some(version)).await;
    }

    async fn put(&self, key: i64, wish: Wish, seen: Option<Version>) {
        let begun = self.begin(Some(key), wish);
        let put = match (wish, seen) {
            (Wish::Put(value), _) => self.cache.put(&key, value).await.map(|version| (true, Some(version))),
            (Wish::Replace(_, value), Some(seen)) => {
                self.cache.replace(&key, seen, value).await.map(|held| (held, None))
            }
            (wish, _) => {
                let value = wish.value().unwrap_or_default();
                self.cache.put_if_absent(&key, value).await.map(|held| (held, None))
            }
        };
        let version = put.as_ref().ok().and_then(|(_, version)| version.map(Version::as_u64));
        // No tier failed this process meanwhile, and so none failed this write.
        let confirmed = self.failures() == begun.failures;
        self.wrote(begun.id, End::of(put.map(|(held, _)| held)), confirmed, version);
    }

    /// `Ok` means that every tier has confirmed.
    async fn drop_key(&self, key: i64, wish: Wish) {
        let begun = self.begin(Some(key), wish);
        let dropped = match wish {
            Wish::Remove => self.cache.remove(&key).await,
            _ => self.cache.invalidate(&key).await,
        };
        self.wrote(begun.id, End::of(dropped.map(|_| true)), true, None);
    }

    /// Other handles of Redis may hear of it 100 ms later.
    async fn clear(&self) {
        let begun = self.begin(None, Wish::Invalidate);
        let cleared = self.cache.clear().await;
        self.wrote(begun.id, End::of(cleared.map(|()| true)), false, None);
    }

    fn begin(&self, key: Option<i64>, wish: Wish) -> Begun {
        let (process, id) = (self.process, self.number());
        let failures = self.failures();
        say(&Line::Writes { process, id, key: key.map(|key| key as u64), call: now(), wish });
        Begun { id, failures }
    }

    pub(super) fn wrote(&self, id: u64, end: End, confirmed: bool, version: Option<u64>) {
        say(&Line::Wrote { process: self.process, id, ret: now(), end, confirmed, version });
    }

    /// How often Redis has failed this process.
    fn failures(&self) -> u64 {
        self.cache.stats().tier("redis").map_or(0, |redis| redis.errors)
    }
}

//! One program: the machine carries out its steps and compares each read with the map.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use terrace_core::{BoxError, Error, ErrorKind, Item, Many, Version, near::Near};
use tokio::{runtime::Runtime, time::sleep};

use super::{
    model::Model,
    shape::Shape,
    stack::Stack,
    step::{Act, KEYS, Step},
};
use crate::suite::{Outcome, Subject, ensure, ensure_eq};

/// A runtime for one program; its time is paused where the tier has a manual clock.
pub(super) fn runtime(timed: bool) -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(timed).build()
}

/// Carries out all steps and finally reads all keys. `seen` counts the steps that were begun.
pub(super) async fn run<N: Near<u64, u64>>(
    mut model: Model,
    steps: &[Step],
    seen: Option<Arc<AtomicUsize>>,
    subject: Subject,
    near: fn() -> N,
) -> Outcome {
    let mut stack = Stack::new(&model.shape, subject, near)?;
    for step in steps {
        if let Some(seen) = &seen {
            seen.fetch_add(1, Ordering::SeqCst);
        }
        model = model.after(step);
        if !allows_pending_fills(&step.act) {
            stack.settle().await;
        }
        // Each of these functions carries out only its own kind of act.
        stack.read(step.process, &step.act, &model).await?;
        stack.write(step.process, &step.act, &model).await?;
        stack.happen(step.process, &step.act).await?;
        stack.pass(&step.act).await;
        if fills(&step.act, model.shape.store) {
            stack.filling.insert(step.process % stack.caches.len());
        }
    }
    stack.settle().await;
    for process in 0..stack.caches.len() {
        for key in 0..KEYS {
            stack.read(process, &Act::Get(key), &model).await?;
        }
        stack.cache(process).settled().await;
        ensure_eq!(stack.cache(process).stats().flights, 0, "no flight may be under way in the end");
    }
    Ok(())
}

/// Whether an act leaves fills under way that decide what later reads find. Fills run off the caller's
/// path; a read sends copies to nearer tiers. With a store, a later read finds the record in any case.
const fn fills(act: &Act, store: bool) -> bool {
    let reads = matches!(act, Act::Get(_) | Act::GetMany(_) | Act::Replace(..));
    let loads = matches!(act, Act::GetOrLoad(..) | Act::LoadMany(..));
    matches!(act, Act::Refresh(..)) || !store && (loads || reads)
}

/// Whether an act has the same result during pending fills and after them: a write that reads nothing, or
/// an event outside the processes. Passing time is not among them, since it may end the lease of a fill.
const fn allows_pending_fills(act: &Act) -> bool {
    matches!(
        act,
        Act::Put(..)
            | Act::PutMany(..)
            | Act::Invalidate(_)
            | Act::Remove(_)
            | Act::RemoveMany(_)
            | Act::Clear
            | Act::Beat
            | Act::Lose
            | Act::Pause
    )
}

impl<N: Near<u64, u64>> Stack<N> {
    async fn settle(&mut self) {
        for process in std::mem::take(&mut self.filling) {
            self.cache(process).settled().await;
        }
    }

    /// Carries out a read; `model` is the map after it.
    async fn read(&self, process: usize, act: &Act, model: &Model) -> Outcome {
        let cache = self.cache(process);
        match act {
            Act::Get(key) => {
                let got = cache.get(&name(*key)).await?.map(|value| *value);
                ensure_eq!(got, model.value(*key), "process {process} reads key {key}");
            }
            Act::GetMany(keys) => agree(cache.get_many(&names(keys)).await, keys, model)?,
            Act::GetOrLoad(key, value) => {
                let got = cache.get_or_load(&name(*key), || load(*value)).await?;
                ensure_eq!(Some(*got), model.value(*key), "process {process} reads or loads key {key}");
            }
            Act::LoadMany(keys, value) => {
                let value = *value;
                let load = |missing: terrace_core::MissingKeys<u64>| async move {
                    let value = load(value).await?;
                    Ok::<_, BoxError>(missing.keys().iter().map(|key| (*key, value)).collect::<Vec<_>>())
                };
                agree(cache.get_or_load_many(&names(keys), load).await, keys, model)?;
            }
            Act::Refresh(key, value) => {
                let got = cache.refresh(&name(*key), |_| load(*value)).await?.map(|value| *value);
                ensure_eq!(got, model.value(*key), "process {process} refreshes key {key}");
            }
            _ => {}
        }
        Ok(())
    }

    async fn write(&self, process: usize, act: &Act, model: &Model) -> Outcome {
        let cache = self.cache(process);
        match act {
            Act::Put(key, value, ttl) => {
                let item = Item::new(*value);
                let ttl = ttl.map(|millis| self.shape.lifetime(millis));
                cache.put_item(&name(*key), ttl.map_or(item.clone(), |ttl| item.ttl(ttl))).await?;
            }
            Act::PutMany(keys, value) => {
                let items: Vec<_> = distinct(keys).map(|key| (key, *value)).collect();
                for put in cache.put_many(items).await {
                    put?;
                }
            }
            Act::PutIfAbsent(key, value) => {
                let put = cache.put_if_absent(&name(*key), *value).await?;
                ensure!(
                    !put || model.value(*key) == Some(*value),
                    "a put of key {key} if absent must not replace a value"
                );
            }
            Act::Replace(key, value) => {
                if let Some(seen) = cache.get(&name(*key)).await? {
                    let version = seen.served().version;
                    ensure!(
                        cache.replace(&name(*key), version, *value).await?,
                        "key {key} must be replaced at version {version}, which was read"
                    );
                }
            }
            Act::ReplaceUnseen(key, value) => {
                let replaced = cache.replace(&name(*key), Version::from_u64(1), *value).await?;
                ensure!(!replaced, "key {key} must not be replaced at a version that never existed");
            }
            Act::Invalidate(key) => allow_partial(cache.invalidate(&name(*key)).await)?,
            Act::Remove(key) => allow_partial(cache.remove(&name(*key)).await)?,
            Act::RemoveMany(keys) => {
                let keys: Vec<u64> = distinct(keys).collect();
                for removed in cache.remove_many(&keys).await {
                    allow_partial(removed)?;
                }
            }
            Act::Expire(key, millis) => {
                allow_partial(cache.expire(&name(*key), self.shape.lifetime(*millis)).await)?
            }
            Act::Clear => {
                allow_partial(cache.clear().await)?;
                (self.subject.wait)(self.shape.clear_lag).await;
            }
            _ => {}
        }
        Ok(())
    }

    async fn pass(&self, act: &Act) {
        match act {
            Act::Advance(millis) => (self.subject.wait)(Duration::from_millis((*millis).into())).await,
            // In virtual time the pause is longer than a budget.
            Act::Pause => sleep(Duration::from_millis(if self.shape.timed { 120 } else { 2 })).await,
            _ => {}
        }
    }
}

/// Whether the stack permits a step. Shrinking also makes steps that it does not permit.
pub(super) fn permits(model: &Model, step: &Step) -> bool {
    Shape::permits(&model.shape, &step.act)
}

fn name(key: u8) -> u64 {
    key.into()
}

fn names(keys: &[u8]) -> Vec<u64> {
    keys.iter().copied().map(name).collect()
}

fn distinct(keys: &[u8]) -> impl Iterator<Item = u64> + use<> {
    keys.iter().copied().map(name).collect::<BTreeSet<u64>>().into_iter()
}

async fn load(value: u64) -> Result<u64, BoxError> {
    sleep(Duration::from_millis(1)).await;
    Ok(value)
}

/// Accepts the error `Partial`: a lost tier did not confirm the removal, but the removal took effect.
fn allow_partial<T>(result: Result<T, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() != ErrorKind::Partial => Err(error),
        _ => Ok(()),
    }
}

fn agree(many: Many<u64>, keys: &[u8], model: &Model) -> Outcome {
    let got: Vec<_> = many.into_values()?.into_iter().map(|value| value.map(|value| *value)).collect();
    let expected: Vec<_> = keys.iter().map(|key| model.value(*key)).collect();
    ensure_eq!(got, expected, "keys {keys:?} in one batch");
    Ok(())
}

#[cfg(test)]
mod tests {
    use terrace_tier::{Clock, Role};

    use super::*;
    use crate::{Fake, PlainNear};

    #[test]
    fn a_copy_that_a_read_still_sends_is_awaited_before_the_next_load() -> Outcome {
        let shape = Shape {
            processes: 1,
            near: true,
            nearer: 1,
            role: Some(Role::Cache),
            farther: 0,
            store: false,
            timed: true,
            clear_lag: Duration::ZERO,
        };
        // The read sends a copy to the nearer tier. That tier refuses the copy after the removal, and what is
        // then sent to it ends the next load's fill.
        let acts =
            [Act::GetOrLoad(3, 0), Act::Expire(3, 1), Act::Get(3), Act::Remove(3), Act::GetOrLoad(3, 0)];
        let steps: Vec<Step> = acts.into_iter().map(|act| Step { process: 0, act }).collect();
        runtime(true).map_err(Error::load)?.block_on(async {
            let hand = Clock::manual();
            let subject = Subject::new(Fake::with_clock("fake", hand.clock())).manual_clock(&hand);
            run(Model::new(shape), &steps, None, subject, PlainNear::new).await
        })
    }
}

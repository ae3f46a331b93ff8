//! These tests run the flight table under shuttle, whose random scheduler tries interleavings of the
//! table's locks.
//!
//! `cargo xtask model` runs these tests. The near tier and the origin are two numbers. In each
//! interleaving of lookups, loads, panics, cancellations and writes, the near tier must never end up
//! older than a write that has returned, and the table must be empty afterwards.

use std::sync::Arc;

use shuttle::{
    future,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use super::{Flights, Intent, JoinMode, LoadOutcome, LoadRole};
use crate::panics::PanicText;

type Table = Flights<u8, (), Option<u64>>;

/// A process with one key: its flights, its near tier, and the origin behind its loader.
struct World {
    flights: Arc<Table>,
    key: Arc<u8>,
    /// The value in the near tier, or 0 for no value.
    near: AtomicU64,
    /// The origin's value, which only grows.
    origin: AtomicU64,
    loads: AtomicUsize,
}

const SCHEDULES: usize = 3_000;

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flights: Arc::new(Table::new()),
            key: Arc::new(1),
            near: AtomicU64::new(0),
            origin: AtomicU64::new(1),
            loads: AtomicUsize::new(0),
        })
    }

    /// Reads the key from the near tier, or by the flight's lookup (which finds nothing) and the
    /// flight's load.
    async fn read(self: &Arc<Self>, panics: bool) -> Option<u64> {
        let near = self.near.load(Ordering::SeqCst);
        if near != 0 {
            return Some(near);
        }
        let ticket = self.flights.join(&self.key, Intent::Load, JoinMode::Join, |_| ());
        if !ticket.joined() {
            self.flights.end_lookup(&self.key, ticket.flight().id, false, || ());
        }
        let mut panicked = 0;
        let promise = loop {
            match ticket.flight().load.enter(panicked) {
                LoadRole::Leader(lead) => {
                    let promise = lead.promise();
                    let world = Arc::clone(self);
                    future::spawn(async move {
                        let mut lead = lead;
                        world.loads.fetch_add(1, Ordering::SeqCst);
                        if panics {
                            lead.panicked(PanicText::default());
                            return drop((lead, ticket));
                        }
                        let loaded = world.origin.load(Ordering::SeqCst);
                        let id = ticket.flight().id;
                        world.flights.while_attached(&world.key, id, || {
                            world.near.store(loaded, Ordering::SeqCst);
                        });
                        world.flights.complete(&world.key, id);
                        lead.done(Some(loaded));
                    });
                    break promise;
                }
                LoadRole::Follower(promise, attempt) => match promise.wait().await {
                    LoadOutcome::Done(value) => return value,
                    LoadOutcome::Panicked(_) | LoadOutcome::Refused => panicked = attempt,
                    LoadOutcome::Abandoned => return None,
                },
                LoadRole::GaveUp(_) => return None,
            }
        };
        match promise.wait().await {
            LoadOutcome::Done(value) => value,
            LoadOutcome::Panicked(_) | LoadOutcome::Refused | LoadOutcome::Abandoned => None,
        }
    }

    /// Writes to the origin first, and to the near tier last.
    fn write(&self) -> u64 {
        let ticket = self.flights.begin_write(&self.key);
        let written = self.origin.fetch_add(1, Ordering::SeqCst) + 1;
        ticket.finish(0, |alone| {
            let value = if alone { written } else { 0 };
            self.near.store(value, Ordering::SeqCst);
        });
        written
    }

    fn invalidate(&self) {
        self.origin.fetch_add(1, Ordering::SeqCst);
        self.flights.write_now(&self.key, || self.near.store(0, Ordering::SeqCst));
    }

    /// Checks that the near tier has no value or the origin's value, and that the table is empty.
    fn check(&self) {
        let (near, origin) = (self.near.load(Ordering::SeqCst), self.origin.load(Ordering::SeqCst));
        assert!(near == 0 || near == origin, "near kept {near} while the origin has {origin}");
        assert_eq!(self.flights.len(), 0, "a slot was left behind");
    }
}

fn explore(scenario: impl Fn() + Send + Sync + 'static) {
    shuttle::check_random(scenario, SCHEDULES);
}

fn run(tasks: Vec<future::JoinHandle<()>>, world: Arc<World>) {
    future::block_on(async move {
        for task in tasks {
            let _ = task.await;
        }
    });
    // A load that all its callers left has ended, too, when no other task can run.
    while world.flights.len() > 0 {
        shuttle::thread::yield_now();
    }
    world.check();
}

#[test]
fn readers_and_writers_leave_near_as_new_as_the_origin() {
    explore(|| {
        let world = World::new();
        let mut tasks = Vec::new();
        for writes in [false, false, true, true] {
            let world = Arc::clone(&world);
            tasks.push(future::spawn(async move {
                if writes {
                    world.write();
                } else {
                    world.read(false).await;
                }
            }));
        }
        run(tasks, world);
    });
}

#[test]
fn a_read_after_an_acknowledged_write_is_never_older() {
    explore(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let reader = future::spawn(async move { _ = other.read(false).await });
        let other = Arc::clone(&world);
        let writer = future::spawn(async move {
            let written = other.write();
            let seen = other.read(false).await;
            assert!(seen.is_some_and(|seen| seen >= written), "wrote {written}, then read {seen:?}");
        });
        run(vec![reader, writer], world);
    });
}

#[test]
fn invalidations_detach_loads_and_readers_after_them_load_anew() {
    explore(|| {
        let world = World::new();
        let other = Arc::clone(&world);
        let reader = future::spawn(async move { _ = other.read(false).await });
        let other = Arc::clone(&world);
        let invalidator = future::spawn(async move {
            other.invalidate();
            let origin = other.origin.load(Ordering::SeqCst);
            let seen = other.read(false).await;
            assert!(seen.is_some_and(|seen| seen >= origin), "joined a load from before the invalidation");
        });
        run(vec![reader, invalidator], world);
    });
}

#[test]
fn a_panic_hands_over_once_and_nobody_waits_for_ever() {
    explore(|| {
        let world = World::new();
        let mut tasks = Vec::new();
        for panics in [true, true, false] {
            let world = Arc::clone(&world);
            tasks.push(future::spawn(async move { _ = world.read(panics).await }));
        }
        run(tasks, world);
    });
}

#[test]
fn cancelled_callers_leave_the_table_empty() {
    explore(|| {
        let world = World::new();
        let mut tasks = Vec::new();
        for _ in 0..3 {
            let world = Arc::clone(&world);
            tasks.push(future::spawn(async move { _ = world.read(false).await }));
        }
        tasks[0].abort();
        run(tasks, world);
    });
}

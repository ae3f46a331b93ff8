//! After a pause of the process, the clock is right at once on every thread.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, waitpid};
use terrace::{Cache, Item, Memory, Source};

/// Set in the child process, which runs the same test.
const CHILD: &str = "TERRACE_TEST_STOPPED_CHILD";
const LIFE: Duration = Duration::from_millis(100);
const STOP: Duration = Duration::from_millis(300);

#[test]
fn after_sigstop_and_sigcont_the_first_read_sees_that_an_entry_has_expired() {
    let this = "after_sigstop_and_sigcont_the_first_read_sees_that_an_entry_has_expired";
    match std::env::var_os(CHILD) {
        Some(_) => read_across_a_stop(),
        None => stop_and_continue(this),
    }
}

#[test]
fn no_busy_thread_reads_the_time_of_before_the_stop() {
    let this = "no_busy_thread_reads_the_time_of_before_the_stop";
    match std::env::var_os(CHILD) {
        Some(_) => read_on_four_threads_across_a_stop(),
        None => stop_and_continue(this),
    }
}

/// Runs `test` in a child process, waits until it has stopped itself, and lets it go on.
fn stop_and_continue(test: &str) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = Pid::from_child(&child);
    let (_, status) = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap().unwrap();
    assert!(status.stopped(), "the child ended before it stopped itself: {status:?}");
    std::thread::sleep(STOP);
    kill_process(pid, Signal::CONT).unwrap();
    assert!(child.wait().unwrap().success(), "the child's assertions failed");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn read_across_a_stop() {
    runtime().block_on(async {
        let cache: Cache<u64, u64> = Cache::builder("paused").near(Memory::entries(10)).build().unwrap();
        cache.put_item(&1, Item::new(7).ttl(LIFE)).await.unwrap();
        assert_eq!(cache.get(&1).await.unwrap().unwrap().served().from, Source::Near);
        let before = Instant::now();
        kill_process(getpid(), Signal::STOP).unwrap();
        // Another thread may take the signal first, so this thread may run on for a moment.
        while before.elapsed() < STOP / 2 {
            std::hint::spin_loop();
        }
        assert!(cache.get(&1).await.unwrap().is_none(), "the first read after the stop is a miss");
    });
}

fn read_on_four_threads_across_a_stop() {
    let runtime = runtime();
    let cache = runtime.block_on(async {
        let cache: Cache<u64, u64> = Cache::builder("paused").near(Memory::entries(10)).build().unwrap();
        cache.put_item(&1, Item::new(7).ttl(LIFE)).await.unwrap();
        cache
    });
    let put_at = Instant::now();
    let (over, hits, late) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let read = || {
        while !over.load(Ordering::Relaxed) {
            let called_at = Instant::now();
            if runtime.handle().block_on(cache.get(&1)).unwrap().is_some() {
                hits.fetch_add(1, Ordering::Relaxed);
                late.fetch_add(u64::from(called_at - put_at > LIFE), Ordering::Relaxed);
            }
        }
    };
    std::thread::scope(|scope| {
        (0..4).for_each(|_| drop(scope.spawn(read)));
        std::thread::sleep(LIFE / 5);
        kill_process(getpid(), Signal::STOP).unwrap();
        std::thread::sleep(LIFE / 2);
        over.store(true, Ordering::Relaxed);
    });
    assert!(hits.load(Ordering::Relaxed) > 0, "it was a near hit before the stop");
    assert_eq!(late.load(Ordering::Relaxed), 0, "reads of an entry that had expired");
}

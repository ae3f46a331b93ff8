//! Signals to a server and to its child processes.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// Sends a signal; a process that has ended is no error.
fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _gone = kill_process(pid, signal);
    }
}

/// Stops the server first, so that it starts no more children, and then its children.
pub(super) fn stop_tree(pid: u32) {
    signal(pid, Signal::STOP);
    for child in children(pid) {
        signal(child, Signal::STOP);
    }
}

/// Lets a stopped server continue, its children first.
pub(super) fn resume_tree(pid: u32) {
    for child in children(pid) {
        signal(child, Signal::CONT);
    }
    signal(pid, Signal::CONT);
}

/// Kills the children and then the server, and waits until the children have ended.
///
/// As in a crash, no process can send anything more, and a postgres that starts next finds no old
/// session in its shared memory. The caller reaps the server itself.
pub(super) fn kill_tree(pid: u32) {
    signal(pid, Signal::STOP);
    let children = children(pid);
    for child in &children {
        signal(*child, Signal::KILL);
    }
    signal(pid, Signal::KILL);
    let start = Instant::now();
    while children.iter().any(|child| is_alive(*child)) && start.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Whether a process still holds its memory; an ended process that waits to be reaped does not.
fn is_alive(pid: u32) -> bool {
    if cfg!(target_os = "linux") {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        field_after_name(&stat, 0).is_some_and(|state| !matches!(state, "Z" | "X"))
    } else {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok())
    }
}

/// The processes that `pid` started. Postgres puts each into a process group of its own, so that a
/// signal to the server's group would miss them.
fn children(pid: u32) -> Vec<u32> {
    if cfg!(target_os = "linux") { children_by_proc(pid) } else { children_by_pgrep(pid) }
}

fn children_by_proc(parent: u32) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            field_after_name(&stat, 1) == Some(&parent.to_string())
        })
        .collect()
}

/// A field of `/proc/<pid>/stat` after the name: 0 is the state, 1 the parent. The name stands in
/// brackets and may itself contain spaces and brackets.
fn field_after_name(stat: &str, index: usize) -> Option<&str> {
    let (_, after_name) = stat.rsplit_once(')')?;
    after_name.split_whitespace().nth(index)
}

fn children_by_pgrep(parent: u32) -> Vec<u32> {
    let output = Command::new("pgrep").args(["-P", &parent.to_string()]).output();
    output.map_or_else(
        |_| Vec::new(),
        |output| {
            String::from_utf8_lossy(&output.stdout).lines().filter_map(|l| l.trim().parse().ok()).collect()
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_is_read_behind_a_name_with_brackets_and_blanks() {
        assert_eq!(field_after_name("12 (a) b (c)) S 34 12 12 0 -1", 1), Some("34"));
        assert_eq!(field_after_name("", 1), None);
    }

    #[test]
    fn a_child_is_listed_while_it_runs() {
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        assert!(children(std::process::id()).contains(&child.id()));
        signal(child.id(), Signal::KILL);
        child.wait().unwrap();
        assert!(!children(std::process::id()).contains(&child.id()));
    }
}

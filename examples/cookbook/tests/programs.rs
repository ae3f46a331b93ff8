//! The programs of the cookbook run, and print what they promise.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

/// Runs a program without servers of the environment, and returns what it printed.
fn run(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(arguments);
    for variable in ["REDIS_URL", "DATABASE_URL", "CACHE_STACK"] {
        command.env_remove(variable);
    }
    let output = command.output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[track_caller]
fn prints(program: &str, expected: &[&str]) {
    let printed = run(program, &[]);
    for line in expected {
        assert!(printed.contains(line), "'{line}' is missing in:\n{printed}");
    }
}

#[test]
fn sessions_lose_no_change_and_end_when_they_are_unused() {
    prints(
        env!("CARGO_BIN_EXE_sessions"),
        &[
            "a new session: true",
            "the same once more: false",
            "at once: 20 are there",
            "in use for three lives: there",
            "unused for one life: gone",
        ],
    );
}

#[test]
fn visits_are_counted_at_once_and_in_the_store_at_the_end() {
    prints(
        env!("CARGO_BIN_EXE_visit_counter"),
        &[
            "counted at once: 100 and 200",
            "at the end 0 writes are not in the store",
            "after a restart: 100 and 200",
        ],
    );
}

#[test]
fn a_prompt_is_answered_once_and_stale_while_the_model_is_away() {
    prints(env!("CARGO_BIN_EXE_llm_answers"), &["the model was called 1 time\n", ", stale"]);
}

#[test]
fn embeddings_are_loaded_in_batches() {
    prints(
        env!("CARGO_BIN_EXE_embeddings"),
        &["150 vectors, 3 calls", "200 vectors, 1 calls", "again: 200 vectors, 0 calls"],
    );
}

#[test]
fn a_file_chooses_the_stack() {
    prints(
        env!("CARGO_BIN_EXE_stacks_by_configuration"),
        &["development: near\n", "desktop: near -> sqlite\n", "production: near -> redis -> postgres\n"],
    );
}

#[test]
fn two_processes_see_each_others_changes() {
    prints(
        env!("CARGO_BIN_EXE_two_processes"),
        &["another process changes it: 3.20", "from then on: 3.20 from Near"],
    );
}

#[test]
fn metrics_are_printed() {
    prints(
        env!("CARGO_BIN_EXE_metrics"),
        &[
            "terrace_reads_total{cache=\"pages\",tier=\"near\",outcome=\"hit\"} 2\n",
            "terrace_load_duration_seconds_count{cache=\"pages\",outcome=\"ok\"} 3\n",
            "{\"status\":\"up\",",
        ],
    );
}

#[test]
fn early_renewal_compares_three_lives() {
    // How many reads wait depends on the machine; core's tests of early renewal count them in virtual time.
    let lines = ["a life alone: ", "refresh_early(0.5): ", "xfetch(1.0): "];
    prints(env!("CARGO_BIN_EXE_early_renewal"), &lines);
}

#[test]
fn a_policy_a_tier_and_tests_of_ones_own_work() {
    prints(env!("CARGO_BIN_EXE_your_own_policy"), &["loads for 6 reads"]);
    prints(env!("CARGO_BIN_EXE_your_own_tier"), &["cases that the library's own cache tiers pass"]);
    prints(env!("CARGO_BIN_EXE_testing"), &["ok  greets without the shared tier"]);
}

#[test]
fn three_stacks_lose_no_session_and_no_visit_and_end_with_an_answer() {
    let printed = run(env!("CARGO_BIN_EXE_three_stacks"), &["--quick"]);
    let cells = |label: &str| -> Vec<String> {
        let line = printed.lines().find(|line| line.trim_start().starts_with(label));
        let line = line.unwrap_or_else(|| panic!("'{label}' is missing in:\n{printed}"));
        line.trim_start().trim_start_matches(label).split("  ").map(str::trim).map(str::to_owned).collect()
    };
    let filled = |label: &str| cells(label).into_iter().filter(|cell| !cell.is_empty()).collect::<Vec<_>>();
    assert_eq!(filled("sessions that were lost"), ["0", "0", "0"], "{printed}");
    assert_eq!(filled("sessions lost when Redis lost its data"), ["-", "0", "0"], "{printed}");
    assert_eq!(filled("visits that were lost"), ["0 of 20"; 3], "{printed}");
    assert_eq!(filled("Which stack for whom"), ["the stack", "by this run"], "{printed}");
    for question in
        ["one instance, quick reads", "several instances, quick reads", "each request sees the one before it"]
    {
        assert_eq!(filled(question).len(), 2, "{printed}");
    }
}

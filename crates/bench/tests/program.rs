//! The program from outside: what it prints, writes and refuses.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

const SMALL: &str = "--synthetic zipf:keys=500 --requests 20000";

fn program(options: &str) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_terrace-bench"));
    program.args(options.split_whitespace()).stdin(Stdio::null());
    program
}

fn run(options: &str) -> Output {
    program(options).output().unwrap()
}

/// The one line that the program refuses with.
fn refusal(options: &str) -> String {
    let output = run(options);
    assert_eq!(output.status.code(), Some(2), "{options}: {output:?}");
    let line = String::from_utf8(output.stderr).unwrap();
    assert_eq!(line.trim_end().lines().count(), 1, "{line}");
    line
}

fn report(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn stacks_side_by_side_give_a_table_json_csv_and_one_page_without_a_network() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let files = format!("--json {} --csv {} --html {}", at("r.json"), at("r.csv"), at("r.html"));
    let output = run(&format!(
        "run --synthetic zipf:keys=500 --requests 5000 --stack small=memory:50 --stack quick:500 --stack file=sqlite --concurrency 1,4 --mix read=9,write=1 \
         --price load=0.001 --quiet {files}"
    ));
    assert!(output.status.success(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    for expected in ["small", "quick:500", "4 callers", "Stack: ", "Capacity: ", "cost "] {
        assert!(table.contains(expected), "{expected} is not in {table}");
    }

    let report = report(&folder.path().join("r.json"));
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 6);
    for row in rows {
        assert_eq!(row["requests"], 5_000);
        // A busy disk may hold a call of SQLite up beyond its budget.
        if row["is_remote"] == false {
            assert_eq!(row["errors"], serde_json::json!({}));
        }
        // The costs are those of a hand computation.
        let cost = row["loads"].as_f64().unwrap() * 0.001;
        assert!((row["cost"]["sum"].as_f64().unwrap() - cost).abs() < 1e-9);
    }
    let loads = |row: usize| rows[row]["loads"].as_u64().unwrap();
    assert!(loads(0) > loads(2), "50 entries load more often than 500: {} and {}", loads(0), loads(2));
    assert!(rows[4]["tiers"][0]["calls"].as_u64().unwrap() > 1_000);

    let lines = std::fs::read_to_string(folder.path().join("r.csv")).unwrap();
    let fields = |line: &str| line.split(',').count();
    assert_eq!(lines.lines().count(), 7);
    assert!(lines.lines().all(|line| fields(line) == fields(lines.lines().next().unwrap())), "{lines}");

    let page = std::fs::read_to_string(folder.path().join("r.html")).unwrap();
    assert!(page.matches("<svg").count() >= 6, "{} charts", page.matches("<svg").count());
    for outside in ["http:", "https:", "src=", "url(", "<script", "NaN", "inf"] {
        assert!(!page.contains(outside), "the page has {outside}");
    }
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let cut = folder.path().join("cut.lis");
    std::fs::write(&cut, "1 2 0 0\n5 1").unwrap();
    for (options, expected) in [
        ("run /no/such.trace --stack memory", "/no/such.trace"),
        (&*format!("run {} --stack memory --quiet", cut.display()), "cut.lis line 2"),
        (&*format!("run {SMALL}"), "give at least one stack"),
        (&*format!("run {SMALL} --stack disk"), "`disk` is no tier"),
        (&*format!("run {SMALL} --stack memory --arrival open"), "--arrival open needs --rate"),
        (&*format!("run {SMALL} --stack memory --html /no/folder/x.html"), "/no/folder/x.html"),
        (&*format!("run {SMALL} --stack memory --fault 1:kill:redis"), "no stack has the tier redis"),
        (
            &*format!("run {SMALL} --stack redis:redis://127.0.0.1:1 --fault 1:kill:redis"),
            "not the run's own server",
        ),
        (
            &*format!("run {SMALL} --stack memory --quiet --json /dev/full"),
            "/dev/full: the report is not written",
        ),
        ("compare /no/a.json /no/b.json", "/no/a.json"),
        ("curve - --format lirs", "the trace is empty"),
    ] {
        let line = refusal(options);
        assert!(line.contains(expected), "{options}: {line}");
    }
}

#[test]
fn a_server_that_is_away_is_named_with_its_stack() {
    let line = refusal(&format!("run {SMALL} --no-analysis --stack far=redis:redis://127.0.0.1:1 --quiet"));
    assert!(line.contains("stack far") && line.contains("redis"), "{line}");
}

#[test]
fn an_interrupted_run_writes_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("r.json");
    let options = "run --synthetic zipf:keys=500 --seconds 60 --stack memory --quiet --json";
    let mut child = program(options).arg(&json).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(2_500));
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let report = report(&json);
    assert_eq!(report["interrupted"], true);
    assert!(report["rows"][0]["requests"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_generated_trace_is_counted_from_standard_input() {
    let mut writer = program("generate --synthetic loop:keys=1000 --requests 5000 --key-bytes 40");
    let mut writer = writer.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = program("inspect -");
    let output = reader.stdin(writer.stdout.take().unwrap()).output().unwrap();
    assert!(writer.wait().unwrap().success());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("5,000 requests of 1,000 distinct keys"), "{text}");
}

#[test]
fn faults_of_a_private_redis_are_made_and_seen() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("r.json");
    let options = "run --synthetic zipf:keys=500 --seconds 4s --stack redis --concurrency 2 --quiet \
                   --fault 1:stop:redis:500ms --fault 2.5:empty:redis --json";
    let output = program(options).arg(&json).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report = report(&json);
    assert_eq!(report["notes"], serde_json::json!([]));
    // Reads went past the stopped server, and keys were loaded again that it had held.
    let row = &report["rows"][0];
    assert!(row["tiers"][0]["errors"].as_u64().unwrap() > 0, "{row}");
    assert!(row["loads"].as_u64().unwrap() > 500, "{row}");
}

#[test]
fn two_equal_builds_in_turns_get_no_verdict() {
    let itself = env!("CARGO_BIN_EXE_terrace-bench");
    let options = format!("turns {itself} {itself} --rounds 7 -- {SMALL} --stack memory:1000");
    let output = run(&options);
    let text = String::from_utf8(output.stdout).unwrap();
    // Another build may run beside this test: what counts is that a line says what was found.
    assert!(text.contains("memory:1000, 1 caller: processor time a request"), "{text} {:?}", output.stderr);
    assert!(
        run(&format!("turns {itself} {itself} --rounds 3 -- {SMALL} --stack memory")).status.code()
            == Some(2)
    );
}

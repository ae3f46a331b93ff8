//! The short form of the runs on real servers: four rounds, with every stack and every fault.

use std::process::Command;

#[test]
fn four_rounds_on_real_servers_break_no_promise() {
    let run = Command::new(env!("CARGO_BIN_EXE_terrace-verify"))
        .args(["--rounds", "4", "--from", "0", "--keep", env!("CARGO_TARGET_TMPDIR")])
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    println!("{told}");
    assert!(run.status.success(), "{told}\n{}", String::from_utf8_lossy(&run.stderr));
}

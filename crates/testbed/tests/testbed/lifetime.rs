//! Servers end with the process that started them, even if it is killed.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

fn with_servers() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_with-servers"));
    for variable in ["TERRACE_TEST_REDIS_URL", "REDIS_URL", "TERRACE_TEST_DATABASE_URL", "DATABASE_URL"] {
        command.env_remove(variable);
    }
    command
}

/// Prints the ports of both servers, the port of Redis first.
const SHOW_PORTS: &str = r#"
redis=${TERRACE_TEST_REDIS_URL##*:}
database=${TERRACE_TEST_DATABASE_URL%/*}
echo "$redis ${database##*:}"
"#;

/// The output of the command, which follows one line with the versions of the servers.
fn of_command(output: &str) -> &str {
    let (servers, rest) = output.split_once('\n').unwrap();
    assert!(servers.starts_with("servers: "), "{servers}");
    rest
}

fn ports(line: &str) -> Vec<u16> {
    line.split_whitespace().map(|port| port.parse().unwrap()).collect()
}

fn gone(port: u16, patience: Duration) -> bool {
    let start = Instant::now();
    while start.elapsed() < patience {
        if TcpStream::connect(("127.0.0.1", port)).is_err() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

#[test]
fn servers_of_a_killed_process_end_and_their_folders_go() {
    let temporary = tempfile::Builder::new().prefix("terrace-lifetime-").tempdir().unwrap();
    // The user who runs postgres needs access to the folder.
    std::fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut process = with_servers()
        .args(["/bin/sh", "-c", &format!("{SHOW_PORTS}\nexec cat >&2")])
        .stdin(Stdio::piped())
        .env("TMPDIR", temporary.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut output, mut lines) = (String::new(), BufReader::new(process.stdout.take().unwrap()));
    for _ in 0..2 {
        lines.read_line(&mut output).unwrap();
    }
    let ports = ports(of_command(&output));
    assert_eq!(ports.len(), 2);
    for port in &ports {
        TcpStream::connect(("127.0.0.1", *port)).unwrap();
    }
    process.kill().unwrap();
    process.wait().unwrap();
    for port in ports {
        assert!(gone(port, Duration::from_secs(10)), "port {port} still answers");
    }
    let start = Instant::now();
    while std::fs::read_dir(temporary.path()).unwrap().count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "the folder of a server was not removed");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn the_commands_exit_status_is_handed_on_and_the_servers_are_gone_by_then() {
    let output = with_servers().args(["/bin/sh", "-c", &format!("{SHOW_PORTS}\nexit 3")]).output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    for port in ports(of_command(&String::from_utf8(output.stdout).unwrap())) {
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    }
}

#[test]
fn servers_named_by_the_environment_are_used_and_none_is_started() {
    let output = with_servers()
        .args(["/bin/sh", "-c", "echo \"[$TERRACE_TEST_REDIS_URL$TERRACE_TEST_DATABASE_URL]\""])
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("DATABASE_URL", "postgres://127.0.0.1:1/x")
        .env("PATH", "/bin")
        .output()
        .unwrap();
    assert_eq!(of_command(&String::from_utf8(output.stdout).unwrap()), "[]\n");
    assert!(output.status.success());
}

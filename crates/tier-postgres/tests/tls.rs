//! TLS with certificates of our own: what is wrong with one is named, and is not waited for.
//!
//! Where `openssl` is not installed these tests print that they are left out.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use support::{connect, key, open, put};
use terrace_testbed::{Postgres as Server, unique_name};
use terrace_tier::{ErrorKind, FindingTopic, Role};

/// A folder that is removed when its handle is dropped.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.0);
    }
}

impl Folder {
    fn new() -> Self {
        let folder = std::env::temp_dir().join(unique_name("tls"));
        std::fs::create_dir(&folder).expect("a folder");
        Self(folder)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn openssl(&self, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(&self.0).output();
        let output = output.expect("openssl runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }

    /// A certificate for a host, signed by an authority.
    fn certificate(&self, name: &str, authority: &str, host: &str, days: i32) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={host} -keyout {name}.key -out {name}.csr"
        ));
        std::fs::write(self.0.join("names"), format!("subjectAltName=DNS:{host}")).expect("a file");
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -set_serial 7 -days {days} \
             -extfile names -out {name}.pem"
        ));
    }
}

fn has_openssl() -> bool {
    let has = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !has {
        println!("left out: openssl is not installed");
    }
    has
}

/// Turns on TLS with a certificate of the folder, and with `ca` the check of clients' certificates.
async fn turn_on(server: &Server, folder: &Folder, name: &str, ca: Option<&str>) {
    let process =
        std::fs::metadata(format!("/proc/{}", server.pid().expect("a process"))).expect("a process");
    let (user, group) =
        (std::os::unix::fs::MetadataExt::uid(&process), std::os::unix::fs::MetadataExt::gid(&process));
    let mut operator = connect(&server.superuser_url()).await;
    let data: String =
        sqlx::query_scalar("SHOW data_directory").fetch_one(&mut operator).await.expect("a folder");
    let data = Path::new(&data);
    for (from, to) in [(format!("{name}.pem"), "server.crt"), (format!("{name}.key"), "server.key")] {
        std::fs::copy(folder.0.join(from), data.join(to)).expect("copied");
        std::os::unix::fs::chown(data.join(to), Some(user), Some(group)).expect("chown");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(data.join(to), mode).expect("private");
    }
    if let Some(ca) = ca {
        std::fs::copy(folder.0.join(format!("{ca}.pem")), data.join("clients.crt")).expect("copied");
        std::os::unix::fs::chown(data.join("clients.crt"), Some(user), Some(group)).expect("chown");
        let rules = std::fs::read_to_string(data.join("pg_hba.conf")).expect("rules");
        let rule = "hostssl all terrace_test_app all trust clientcert=verify-ca\n";
        std::fs::write(data.join("pg_hba.conf"), format!("{rule}{rules}")).expect("written");
        sqlx::raw_sql("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'")
            .execute(&mut operator)
            .await
            .expect("set");
    }
    sqlx::raw_sql("ALTER SYSTEM SET ssl = on").execute(&mut operator).await.expect("set");
    sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut operator).await.expect("read");
    while !sqlx::query_scalar::<_, bool>("SELECT setting = 'on' FROM pg_settings WHERE name = 'ssl'")
        .fetch_one(&mut connect(&server.superuser_url()).await)
        .await
        .expect("a row")
    {}
}

#[tokio::test]
async fn a_certificate_that_is_wrong_is_named_and_not_waited_for() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new();
    folder.authority("ours");
    folder.authority("theirs");
    folder.certificate("right", "ours", "localhost", 3650);
    folder.certificate("elsewhere", "ours", "another.example", 3650);
    folder.certificate("expired", "ours", "localhost", 0);
    for (name, authority, is_right) in [
        ("right", "ours", true),
        ("right", "theirs", false),
        ("elsewhere", "ours", false),
        ("expired", "ours", false),
    ] {
        let server = Server::start().await.expect("a server");
        turn_on(&server, &folder, name, None).await;
        let url = format!(
            "postgres://terrace_test_app:hunter2@localhost:{}/terrace_test_app?sslmode=verify-full&sslrootcert={}",
            server.port(),
            folder.file(&format!("{authority}.pem"))
        );
        let tier = open(&url, Role::Store);
        if is_right {
            tier.apply(&key(1), put("v")).await.expect("a record over TLS");
            continue;
        }
        let error = tier.ready().await.expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Config, "{name} of {authority}: {error}");
        assert!(!error.is_transient() && error.to_string().contains("certificate"), "{error}");
        assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Certificate);
        assert!(!format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_client_without_its_certificate_is_told_so() {
    if !has_openssl() {
        return;
    }
    let folder = Folder::new();
    folder.authority("ours");
    folder.certificate("right", "ours", "localhost", 3650);
    folder.certificate("client", "ours", "terrace_test_app", 3650);
    let server = Server::start().await.expect("a server");
    turn_on(&server, &folder, "right", Some("ours")).await;
    let url = format!(
        "postgres://terrace_test_app@localhost:{}/terrace_test_app?sslmode=verify-full&sslrootcert={}",
        server.port(),
        folder.file("ours.pem")
    );
    let error = open(&url, Role::Store).ready().await.expect_err("no certificate");
    assert!(!error.is_transient(), "{error}");
    assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Certificate, "{error}");
    let with = format!("{url}&sslcert={}&sslkey={}", folder.file("client.pem"), folder.file("client.key"));
    open(&with, Role::Store).apply(&key(1), put("v")).await.expect("a record");
}

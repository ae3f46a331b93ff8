//! PgBouncer before the server: by sessions it serves, by transactions it is found and refused.
//!
//! Where PgBouncer is not installed these tests print that they are left out.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use support::{follower::RecordingFollower, key, open, put};
use terrace_testbed::{PgBouncer, Postgres as Server};
use terrace_tier::{Backend, ErrorKind, FindingTopic, Op, Reply, Role};
use terrace_tier_postgres::Postgres;

/// A server, and a pooler before it in this mode. `None` where there is no pooler on this machine.
async fn pooled(mode: &str, settings: &[(&str, &str)]) -> Option<(Server, PgBouncer, String)> {
    if !PgBouncer::is_installed() {
        println!("left out: pgbouncer is not installed");
        return None;
    }
    let server = Server::start().await.expect("a server");
    let options = settings
        .iter()
        .fold(PgBouncer::before(&server, mode), |options, (name, value)| options.pooler_setting(name, value));
    let pooler = options.start().await.expect("a pooler");
    let url = pooler.url_of(&server.url());
    Some((server, pooler, url))
}

#[tokio::test]
async fn a_pooler_by_sessions_serves_with_and_without_what_other_clients_make_it_ignore() {
    for settings in [&[("ignore_startup_parameters", "extra_float_digits")][..], &[]] {
        let Some((_server, _pooler, url)) = pooled("session", settings).await else { return };
        let tier = open(&url, Role::Store);
        let findings = tier.ready().await.expect("ready");
        assert!(findings.iter().all(|finding| !finding.is_stopping()), "{findings:?}");
        tier.apply(&key(1), put("v")).await.expect("a record");
        assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
        // Each session has the settings that the statements need.
        let handle = Postgres::new(&url).expect("a handle");
        let follower = RecordingFollower::new();
        handle.log().expect("a log").follow("users", follower.weak());
        follower.caught_up().await;
        follower.take();
        tier.apply(&key(2), put("v")).await.expect("a record");
        follower.caught_up().await;
        assert_eq!(follower.take_keys(), [2]);
    }
}

#[tokio::test]
async fn a_pooler_by_transactions_or_statements_is_refused_by_ready() {
    for (mode, size) in [("transaction", "20"), ("transaction", "1"), ("statement", "20")] {
        let settings = [("default_pool_size", size)];
        let Some((_server, _pooler, url)) = pooled(mode, &settings).await else { return };
        for _ in 0..3 {
            let error = open(&url, Role::Store).ready().await.expect_err("a pooler in the way");
            assert_eq!(error.kind(), ErrorKind::Config, "{mode} {size}: {error}");
            assert!(!error.is_transient(), "{error}");
            let finding = error.finding().expect("a finding");
            assert_eq!(finding.topic(), FindingTopic::Pooler, "{mode} {size}: {error}");
            assert!(finding.cure().contains("session"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_parameter_that_a_pooler_refuses_is_a_wrong_setting_and_not_waited_for() {
    let Some((_server, _pooler, url)) = pooled("session", &[]).await else { return };
    let error =
        open(&format!("{url}?options=-c%20work_mem=1MB"), Role::Store).ready().await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Pooler);
}

//! The Redis tier over TLS, with certificates of our own, and with what may be wrong with a certificate. Some builds
//! of servers have no TLS, so these tests are a program of their own.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "faults/bench.rs"]
#[allow(dead_code, reason = "these tests need a part of it")]
mod bench;

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use terrace_testbed::{Redis as Server, Sentinel, free_port, unique_name};
use terrace_tier::{Error, ErrorKind, Finding, FindingTopic};
use terrace_tier_redis::{Redis, RedisBuilder};

use bench::Bench;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, unique_name("authority"));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for a host name, or for an address, and its key, in PEM.
fn certificate(authority: &Authority, name: &str, last_year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 12, 31);
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem())
}

/// The finding of an error that waiting does not resolve.
fn lasting(error: &Error, topic: FindingTopic) -> Finding {
    assert!(!error.is_transient(), "{error:?}");
    let finding = error.finding().unwrap_or_else(|| panic!("{error} has no finding"));
    assert_eq!(finding.topic(), topic, "{error}");
    finding.clone()
}

const VALID: i32 = 2090;
const EXPIRED: i32 = 2021;

/// A server that speaks TLS at a second port, and its authorities.
struct Secured {
    _server: Server,
    folder: tempfile::TempDir,
    tls_port: u16,
    ca: String,
}

impl Secured {
    /// A server with a certificate for `name`. It wants a certificate of its clients if `clients` signs those.
    async fn new(name: &str, last_year: i32, clients: Option<&Authority>) -> Self {
        Self::speaking("TLSv1.2 TLSv1.3", name, last_year, clients).await
    }

    async fn speaking(protocols: &str, name: &str, last_year: i32, clients: Option<&Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let own = authority();
        let (certificate, key) = certificate(&own, name, last_year);
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let show = |path: &Path| path.to_str().unwrap().to_owned();
        let clients_ca = clients.unwrap_or(&own).pem();
        let tls_port = free_port().unwrap();
        let server = Server::options()
            .password("S3cret")
            .config("tls-port", &tls_port.to_string())
            .config("tls-cert-file", &show(&write("server.pem", &certificate)))
            .config("tls-key-file", &show(&write("server.key", &key)))
            .config("tls-ca-cert-file", &show(&write("clients.pem", &clients_ca)))
            .config("tls-protocols", &format!("\"{protocols}\""))
            .config("tls-auth-clients", if clients.is_some() { "yes" } else { "no" })
            .start()
            .await
            .unwrap();
        Self { _server: server, folder, tls_port, ca: own.pem() }
    }

    fn url(&self) -> String {
        format!("rediss://:S3cret@localhost:{}", self.tls_port)
    }

    fn builder(&self) -> RedisBuilder {
        Redis::builder(self.url()).tls_ca(self.ca.clone())
    }

    fn bench(&self, builder: RedisBuilder) -> Bench {
        Bench::through(builder.build().unwrap(), &self.url())
    }

    /// Checks that the certificate is the cause that `ready` and a call name.
    async fn refuses(&self, builder: RedisBuilder, words: &str) {
        let bench = self.bench(builder);
        let error = bench.tier.ready().await.unwrap_err();
        let finding = lasting(&error, FindingTopic::Certificate);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(finding.cause().contains(words), "{error}");
        let late = bench.get("k").await.unwrap_err();
        assert!(late.to_string().contains(words), "{late}");
        let shown = format!("{error} {error:?} {late:?} {:?} {:?}", bench.handle, bench.tier);
        assert!(!shown.contains("S3cret") && !shown.contains("BEGIN"), "{shown}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_authority_and_a_client_certificate_of_our_own_are_used() {
    let clients = authority();
    let server = Secured::new("localhost", VALID, Some(&clients)).await;
    let (certificate, key) = certificate(&clients, "client", VALID);
    let builder = server.builder().tls_client_certificate(certificate, key.clone());
    assert!(!format!("{builder:?}").contains(key.lines().nth(1).unwrap()));
    let bench = server.bench(builder);
    assert_eq!(bench.tier.ready().await.unwrap(), []);
    bench.put("k", "value").await.unwrap();
    bench.reads("k", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_certificate_of_the_server_is_a_config_error_that_says_what_is_wrong() {
    let server = Secured::new("localhost", VALID, None).await;
    assert_eq!(server.bench(server.builder()).tier.ready().await.unwrap(), []);
    server.refuses(server.builder().tls_ca(authority().pem()), "authority that is not trusted").await;
    server.refuses(Redis::builder(server.url()), "authority that is not trusted").await;
    let expired = Secured::new("localhost", EXPIRED, None).await;
    expired.refuses(expired.builder(), "has expired").await;
    let other = Secured::new("other.example", VALID, None).await;
    other.refuses(other.builder(), "another host name").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_wrong_client_certificate_is_a_config_error() {
    let clients = authority();
    for protocol in ["TLSv1.2", "TLSv1.3"] {
        let server = Secured::speaking(protocol, "localhost", VALID, Some(&clients)).await;
        for _ in 0..5 {
            server.refuses(server.builder(), "wants a client certificate").await;
        }
        for (authority, last_year) in [(&authority(), VALID), (&clients, EXPIRED)] {
            let (certificate, key) = certificate(authority, "client", last_year);
            let builder = server.builder().tls_client_certificate(certificate, key);
            server.refuses(builder, "refuses the client certificate").await;
        }
        let (certificate, key) = certificate(&clients, "client", VALID);
        let bench = server.bench(server.builder().tls_client_certificate(certificate, key));
        assert_eq!(bench.tier.ready().await.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_and_their_servers_are_reached_by_tls() {
    let server = Secured::new("127.0.0.1", VALID, None).await;
    let (port, path) =
        (free_port().unwrap(), |name: &str| server.folder.path().join(name).to_str().unwrap().to_owned());
    let sentinel = Sentinel::options()
        .config("tls-port", &port.to_string())
        .config("tls-cert-file", &path("server.pem"))
        .config("tls-key-file", &path("server.key"))
        .config("tls-ca-cert-file", &path("clients.pem"))
        .config("tls-auth-clients", "no")
        .config("tls-replication", "yes")
        .master("main", server.tls_port, 1)
        .config("sentinel auth-pass", "main S3cret");
    let _sentinel = sentinel.start().await.unwrap();
    let url = format!("rediss+sentinel://:S3cret@127.0.0.1:{port}/main");
    let bench = server.bench(Redis::builder(&url).tls_ca(server.ca.clone()));
    assert_eq!(bench.tier.ready().await.unwrap(), []);
    bench.put("k", "value").await.unwrap();
    let bench = server.bench(Redis::builder(&url).tls_ca(authority().pem()));
    lasting(&bench.tier.ready().await.unwrap_err(), FindingTopic::Certificate);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_url_of_a_tls_port_is_a_config_error_that_says_so() {
    let server = Secured::new("localhost", VALID, None).await;
    let bench = Bench::new(&format!("redis://:S3cret@localhost:{}", server.tls_port));
    let error = bench.tier.ready().await.unwrap_err();
    assert!(lasting(&error, FindingTopic::Protocol).cure().contains("rediss://"), "{error}");
}

#[test]
fn certificates_that_cannot_be_used_are_config_errors_at_once() {
    let clients = authority();
    let (certificate, _) = certificate(&clients, "client", VALID);
    let other_key = KeyPair::generate().unwrap().serialize_pem();
    let builder = || Redis::builder("rediss://cache.example");
    for builder in [
        builder().tls_ca("no certificate"),
        builder().tls_client_certificate("no certificate", "no key"),
        builder().tls_client_certificate(certificate, other_key),
        Redis::builder("localhost").tls_ca(clients.pem()),
    ] {
        assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config);
    }
}

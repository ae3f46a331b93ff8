//! What a server says about itself when a connection to it opens, and what is wrong with it.

use std::{sync::Arc, time::Duration};

use redis::Value;
use terrace_tier::{Clock, Error, ErrorKind, Finding, FindingTopic, Secrets};

use crate::{
    error::{Effect, client_error, code_of, error},
    findings::{ALLOW, cluster_error, config_error, replica_error},
};

/// The oldest version that has all commands of the tier.
const OLDEST: (u32, u32) = (6, 2);
/// A difference of the clocks that shortens or extends lives noticeably.
const CLOCK_SKEW: Duration = Duration::from_secs(1);

/// What a server says about itself.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) run_id: Option<Arc<str>>,
    pub(super) role_check: RoleCheck,
    role: Role,
    version: Option<(u32, u32)>,
    is_cluster: bool,
    maxmemory: u64,
    eviction: String,
    /// How far the server's clock is ahead or behind.
    clock_skew: Duration,
    is_resp2: bool,
    /// The commands that the server refused.
    refused: Vec<&'static str>,
}

/// The command that asks for the role of the server while the connection is in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RoleCheck {
    Role,
    Info,
    /// The user may run neither. Only answers then show the role.
    #[default]
    Ping,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Role {
    #[default]
    Unknown,
    Primary,
    Replica,
    Sentinel,
}

/// The requests whose replies [`Facts::read`] takes.
pub(super) fn questions() -> redis::Pipeline {
    let mut questions = redis::Pipeline::with_capacity(3);
    questions.cmd("ROLE");
    questions.cmd("INFO");
    questions.cmd("TIME");
    questions
}

impl RoleCheck {
    pub(super) fn command(self) -> redis::Cmd {
        match self {
            Self::Role => redis::cmd("ROLE"),
            Self::Ping => redis::cmd("PING"),
            Self::Info => {
                let mut info = redis::cmd("INFO");
                info.arg("replication");
                info
            }
        }
    }

    /// The error of a reply that says that the server is not the primary any more.
    pub(super) fn refusal(self, reply: &Value) -> Option<Error> {
        let role = match (self, reply) {
            (Self::Role, reply) => role_in(reply),
            (Self::Info, reply) => role_in_info(&text_in(reply)?),
            (Self::Ping, _) => Role::Unknown,
        };
        role.refusal()
    }
}

impl Role {
    fn refusal(self) -> Option<Error> {
        match self {
            Self::Unknown | Self::Primary => None,
            Self::Replica => Some(replica_error()),
            Self::Sentinel => Some(config_error(
                FindingTopic::Role,
                "the server is a sentinel",
                "write redis+sentinel://host:port/master",
            )),
        }
    }
}

impl Facts {
    /// Reads the replies to [`questions`], which were sent `asked_for` ago.
    ///
    /// # Errors
    /// What the server answered, if it does not serve now.
    pub(super) fn read(
        replies: &[Value],
        asked_for: Duration,
        is_resp2: bool,
        secrets: &Secrets,
    ) -> Result<Self, Error> {
        let mut facts = Self { is_resp2, ..Self::default() };
        let [role, info, time] = replies else { return Ok(facts) };
        for (name, reply) in [("ROLE", role), ("INFO", info), ("TIME", time)] {
            let Value::ServerError(answer) = reply else { continue };
            let error = client_error(&answer.clone().into(), Effect::Read, secrets);
            if error.kind() == ErrorKind::Unavailable || code_of(answer) == "NOAUTH" {
                return Err(error);
            }
            facts.refused.push(name);
        }
        facts.role = role_in(role);
        if let Some(info) = text_in(info) {
            facts.read_info(&info);
        }
        facts.role_check = match facts.refused.as_slice() {
            refused if !refused.contains(&"ROLE") => RoleCheck::Role,
            refused if !refused.contains(&"INFO") => RoleCheck::Info,
            _ => RoleCheck::Ping,
        };
        if let Ok((seconds, micros)) = redis::from_redis_value_ref::<(u64, u64)>(time) {
            let server = Duration::from_secs(seconds) + Duration::from_micros(micros);
            let here = Duration::from_micros(Clock::system().micros());
            facts.clock_skew = server.abs_diff(here).saturating_sub(asked_for);
        }
        Ok(facts)
    }

    fn read_info(&mut self, info: &str) {
        let field = |name: &str| {
            info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
        };
        self.run_id = field("run_id").map(Into::into);
        self.version = field("redis_version").and_then(version_in);
        self.is_cluster = field("cluster_enabled") == Some("1") || field("redis_mode") == Some("cluster");
        self.maxmemory = field("maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
        self.eviction = field("maxmemory_policy").unwrap_or_default().to_owned();
        if self.role == Role::Unknown {
            self.role = role_in_info(info);
        }
    }

    /// Why the server cannot be used.
    pub(super) fn refusal(&self) -> Option<Error> {
        if let Some(refusal) = self.role.refusal() {
            return Some(refusal);
        }
        if self.is_cluster {
            return Some(cluster_error());
        }
        let (major, minor) = self.version.filter(|version| *version < OLDEST)?;
        Some(config_error(
            FindingTopic::Version,
            format!("the server is Redis {major}.{minor}"),
            "use Redis 6.2 or later, or Valkey",
        ))
    }

    /// What only slows the cache.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        if self.is_resp2 {
            findings.push(Finding::slows(
                FindingTopic::Protocol,
                "the server, or a proxy before it, does not speak RESP3, so that a lost connection is found \
                 only after half a second",
                "use Redis 6.2 or later without a proxy, and allow the command HELLO",
            ));
        }
        findings.extend(self.refused.iter().map(|command| refused_command(command)));
        findings.extend(self.eviction_finding());
        if self.clock_skew >= CLOCK_SKEW {
            findings.push(Finding::slows(
                FindingTopic::Clock,
                format!("the clocks of the server and of this process differ by {:.1?}", self.clock_skew),
                "set both by NTP; lives of copies are longer or shorter by the difference",
            ));
        }
        findings
    }

    fn eviction_finding(&self) -> Option<Finding> {
        if self.maxmemory == 0 {
            return None;
        }
        let cause = match self.eviction.as_str() {
            "noeviction" => "the server evicts nothing, and takes no new values once its maxmemory is used",
            "volatile-ttl" => {
                "the server evicts the shortest lives first: under memory pressure the leases of loads end before \
                 their fills, which are then refused"
            }
            _ => return None,
        };
        Some(Finding::slows(FindingTopic::EvictionPolicy, cause, "set maxmemory-policy allkeys-lru"))
    }
}

fn refused_command(command: &str) -> Finding {
    let cause = match command {
        "ROLE" => {
            "the user may not run ROLE, so that a server that has become a replica is recognised by INFO or by \
             its answers alone"
        }
        "INFO" => {
            "the user may not run INFO, so that the version, the memory and the cluster mode of the server are \
             not known"
        }
        _ => "the user may not run TIME, which the scripts of the cache need",
    };
    Finding::slows(FindingTopic::Permission, cause, ALLOW)
}

fn role_in(reply: &Value) -> Role {
    let Value::Array(parts) = reply else { return Role::Unknown };
    match parts.first().and_then(text_in).as_deref() {
        Some("master") => Role::Primary,
        Some("slave" | "replica") => Role::Replica,
        Some("sentinel") => Role::Sentinel,
        _ => Role::Unknown,
    }
}

fn role_in_info(info: &str) -> Role {
    match info.lines().find_map(|line| line.strip_prefix("role:")).map(str::trim) {
        Some("master") => Role::Primary,
        Some("slave" | "replica") => Role::Replica,
        _ => Role::Unknown,
    }
}

fn version_in(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

fn text_in(reply: &Value) -> Option<String> {
    match reply {
        Value::ServerError(_) | Value::Nil => None,
        reply => redis::from_redis_value_ref(reply).ok(),
    }
}

/// The error where the role check has no answer in time.
pub(super) fn silent() -> Error {
    error(ErrorKind::Unavailable, "the server stopped answering")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(role: &str, info: &str) -> Facts {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let role = Value::Array(vec![text(role), Value::Int(0)]);
        let now = Clock::system().micros();
        let time =
            Value::Array(vec![text(&(now / 1_000_000).to_string()), text(&(now % 1_000_000).to_string())]);
        Facts::read(&[role, text(info), time], Duration::ZERO, false, &Secrets::default()).unwrap()
    }

    #[test]
    fn a_plain_primary_has_no_finding() {
        for info in [
            "",
            "redis_version:7.0.15\r\nmaxmemory:0\r\nmaxmemory_policy:noeviction\r\ncluster_enabled:0\r\nrun_id:ab\r\n",
        ] {
            let facts = facts("master", info);
            assert!(facts.refusal().is_none() && facts.findings().is_empty(), "{facts:?}");
        }
    }

    #[test]
    fn a_server_that_cannot_be_used_is_refused() {
        for (role, info, kind, topic) in [
            ("slave", "", ErrorKind::Unavailable, FindingTopic::Role),
            ("sentinel", "", ErrorKind::Config, FindingTopic::Role),
            ("master", "cluster_enabled:1\r\n", ErrorKind::Config, FindingTopic::ClusterMode),
            ("master", "redis_version:6.0.16\r\n", ErrorKind::Config, FindingTopic::Version),
            ("?", "role:slave\r\n", ErrorKind::Unavailable, FindingTopic::Role),
        ] {
            let error = facts(role, info).refusal().unwrap();
            assert_eq!((error.kind(), error.finding().unwrap().topic()), (kind, topic), "{error}");
        }
        for info in ["redis_version:6.2.0", "redis_version:10.0", "redis_version:unknown"] {
            assert!(facts("master", info).refusal().is_none(), "{info}");
        }
    }

    #[test]
    fn policies_that_refuse_values_or_evict_leases_first_are_found_where_memory_is_limited() {
        for (limit, policy, is_found) in [
            (0, "noeviction", false),
            (1, "noeviction", true),
            (1, "volatile-ttl", true),
            (1, "volatile-lru", false),
            (1, "allkeys-lru", false),
        ] {
            let facts = facts("master", &format!("maxmemory:{limit}\r\nmaxmemory_policy:{policy}\r\n"));
            let found = facts.findings().iter().any(|one| one.topic() == FindingTopic::EvictionPolicy);
            assert_eq!(found, is_found, "{policy} {limit}");
        }
    }

    #[test]
    fn clocks_that_differ_are_found() {
        let time = Value::Array(vec![Value::Int(1_000_000_000), Value::Int(0)]);
        let facts =
            Facts::read(&[Value::Nil, Value::Nil, time], Duration::ZERO, false, &Secrets::default()).unwrap();
        assert_eq!(facts.findings()[0].topic(), FindingTopic::Clock);
    }
}

//! What is wrong with a server, and who is told.

use std::sync::Weak;

use parking_lot::Mutex;
use terrace_tier::{Error, ErrorKind, Finding, FindingTopic, FindingWatcher};

use crate::error::{Foreign, MANY_CLIENTS, NO_DATABASE, UNKNOWN_COMMAND, error};

/// What to do about a missing permission.
pub(crate) const ALLOW: &str = "allow it; docs/redis.md lists the permissions that the cache needs";

/// The caches that are told what is wrong while they use the handle.
#[derive(Default)]
pub(crate) struct Watchers(Mutex<Vec<Weak<dyn FindingWatcher>>>);

impl Watchers {
    /// Adds a watcher, and forgets those that are gone.
    pub(crate) fn add(&self, watcher: Weak<dyn FindingWatcher>) {
        let mut watchers = self.0.lock();
        watchers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&watcher));
        watchers.push(watcher);
    }

    pub(crate) fn tell(&self, finding: &Finding) {
        // Outside of the lock, since a watcher is the user's code.
        let watchers: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        watchers.iter().for_each(|watcher| watcher.found(finding));
    }

    /// Tells the finding of an error, if it has one.
    pub(crate) fn tell_error(&self, error: &Error) {
        if let Some(finding) = error.finding() {
            self.tell(finding);
        }
    }
}

/// The finding of a part of the tier that does not work because of `why`.
pub(crate) fn slows(topic: FindingTopic, consequence: &str, why: &Error) -> Finding {
    let (cause, cure) = match why.finding() {
        Some(finding) => (finding.cause().to_owned(), finding.cure().to_owned()),
        None => (why.to_string(), ALLOW.to_owned()),
    };
    Finding::slows(topic, format!("{consequence}: {cause}"), cure)
}

/// The error for a setting of the user or of the server that cannot work, whose cause and cure are known.
pub(crate) fn config_error(topic: FindingTopic, cause: impl Into<String>, cure: impl Into<String>) -> Error {
    finding_error(ErrorKind::Config, Finding::stops(topic, cause, cure))
}

/// The error of a server that is not the one to use now. Another server may take its place.
pub(crate) fn role_error(cause: impl Into<String>, cure: impl Into<String>) -> Error {
    finding_error(ErrorKind::Unavailable, Finding::stops(FindingTopic::Role, cause, cure))
}

pub(crate) fn finding_error(kind: ErrorKind, finding: Finding) -> Error {
    error(kind, finding.to_string()).with_finding(finding)
}

const TO_PRIMARY: &str = "connect to the primary, by a name that leads to it, or by sentinels";

/// The error of a server that is a replica, and has to be left for its primary.
pub(crate) fn replica_error() -> Error {
    role_error("the server is a replica", TO_PRIMARY)
}

/// The error of a server in cluster mode.
pub(crate) fn cluster_error() -> Error {
    config_error(FindingTopic::ClusterMode, CLUSTER_MODE, NO_CLUSTER)
}

const CLUSTER_MODE: &str = "the server is in cluster mode, which the tier does not support yet";
const NO_CLUSTER: &str = "use a server with cluster-enabled no";

/// What an answer with this code says about the server; `None` if it says nothing. `answer` is its text.
pub(crate) fn finding_of_code(code: &str, answer: &Foreign) -> Option<Finding> {
    use FindingTopic::{ClusterMode, Memory, Permission, Role};
    let finding = match code {
        "READONLY" => Finding::stops(Role, "the server is a replica and takes no writes", TO_PRIMARY),
        "MASTERDOWN" => Finding::stops(Role, "the server is a replica that has lost its primary", TO_PRIMARY),
        "LOADING" => Finding::stops(Role, "the server is loading its data", "wait until it has loaded them"),
        "NOREPLICAS" => Finding::stops(
            Role,
            "the server has fewer replicas than min-replicas-to-write and takes no writes",
            "start its replicas, or lower min-replicas-to-write",
        ),
        "OOM" => Finding::stops(
            Memory,
            "the memory of the server is full, and it takes no new values",
            "raise maxmemory, or set maxmemory-policy allkeys-lru",
        ),
        "MISCONF" => Finding::stops(
            Memory,
            "the server cannot save its data to disk and takes no writes",
            "free its disk, or set stop-writes-on-bgsave-error no",
        ),
        "CROSSSLOT" | "MOVED" | "ASK" | "CLUSTERDOWN" => {
            Finding::stops(ClusterMode, CLUSTER_MODE, NO_CLUSTER)
        }
        "NOPERM" => Finding::stops(
            Permission,
            format!("the user may not run a command that the cache needs ({answer})"),
            ALLOW,
        ),
        "NOAUTH" | "WRONGPASS" => Finding::stops(
            Permission,
            format!("the server refused the login ({answer})"),
            "check user and password",
        ),
        "DENIED" => Finding::stops(
            Permission,
            "the server is in protected mode and refuses other hosts",
            "give the server a password, and the password to the cache",
        ),
        UNKNOWN_COMMAND => Finding::stops(
            Permission,
            format!(
                "the server, or a proxy before it, does not know a command that the cache needs ({answer})"
            ),
            "connect to the server itself, and take back its rename-command",
        ),
        NO_DATABASE => Finding::stops(
            FindingTopic::Schema,
            "the server has no database of the number in the URL",
            "use a lower number, or raise the setting databases of the server",
        ),
        MANY_CLIENTS => Finding::stops(
            FindingTopic::Role,
            "the server takes no more connections",
            "raise its maxclients, or use fewer connections",
        ),
        _ => return None,
    };
    Some(finding)
}

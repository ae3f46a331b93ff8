//! The task that polls the outbox and notifies the followers.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::FutureExt;
use sqlx::{Connection, PgConnection};
use terrace_tier::{Error, Finding, FindingTopic, Notice, Result, SentAt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::{
    followers::{Followers, Subscription},
    outbox::{Changes, Position, standby_error},
};
use crate::{
    connection::{
        shared::Shared,
        timeout::{CONNECT_TIMEOUT, within},
    },
    error::{NAME, Phase, misses_schema},
};

/// The time between two polls while nothing changes. A change is reported half of it later on average,
/// and a poll that finds nothing costs the server some 50 microseconds. A NOTIFY with each commit would
/// cost the writers nine tenths of their throughput, because commits that notify take one lock in turn.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// The time between two polls while no follower needs the log. They keep the position within what the outbox
/// holds, and drop copies that were changed.
const SUSPENDED_INTERVAL: Duration = Duration::from_secs(1);
/// The log is suspended once no follower has needed it in so many checks, one a second.
const UNUSED_CHECKS: u32 = 5;
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The pause after a poll that found a change, since more are likely, and after a slow poll.
const MIN_PAUSE: Duration = Duration::from_millis(5);
/// After a poll without a reply for so long, the task connects anew.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// The pause between attempts to connect doubles from the first to the second value.
const RETRY_PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// A connection to a server that takes no writes ends after so long: another server may be the primary.
const READ_ONLY_FOR: Duration = Duration::from_secs(1);

/// Polls until no follower is left or the handle is dropped.
pub(super) async fn run(shared: Weak<Shared>) {
    let mut poller = Poller { shared, position: None, reachable: true };
    let mut pause = RETRY_PAUSE[0];
    loop {
        match poller.run_connected().await {
            Ok(End::Followers) => return,
            Ok(End::ReadOnly) => pause = RETRY_PAUSE[0],
            Err(error) => {
                poller.tell(&error);
                if std::mem::take(&mut poller.reachable) {
                    let cache = poller.cache_names();
                    let what = "the log in Postgres cannot be read; until it can, changes by other processes are not known";
                    tracing::warn!(%cache, tier = NAME, %error, "{what}");
                    pause = RETRY_PAUSE[0];
                }
            }
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(RETRY_PAUSE[1]);
    }
}

/// Why the polls on one connection ended without an error.
enum End {
    /// No follower is left.
    Followers,
    /// The server takes no writes.
    ReadOnly,
}

/// What one poll found.
#[derive(Default)]
struct Polled {
    changed: bool,
    read_only: bool,
}

/// Whether the followers need the log.
struct UseOfLog {
    is_suspended: bool,
    /// The checks in a row in which no follower needed it.
    unused_checks: u32,
    checked_at: Instant,
}

impl UseOfLog {
    fn new(now: Instant) -> Self {
        Self { is_suspended: false, unused_checks: 0, checked_at: now }
    }

    /// Suspends the log if no follower has needed it for some seconds.
    fn check(&mut self, all: &Followers, subscriptions: &[Subscription]) {
        if self.is_suspended || self.checked_at.elapsed() < CHECK_INTERVAL {
            return;
        }
        self.checked_at = Instant::now();
        let followers = || subscriptions.iter().filter_map(|subscription| subscription.follower.upgrade());
        // Each follower is asked, since each counts from its last answer.
        let used = followers().filter(|follower| !follower.is_unused()).count();
        self.unused_checks = if used == 0 { self.unused_checks + 1 } else { 0 };
        if self.unused_checks >= UNUSED_CHECKS {
            self.unused_checks = 0;
            // An earlier call is answered by now. One that comes with a new follower is not: it counts one more.
            let _earlier = all.wake.notified().now_or_never();
            self.is_suspended = all.count() == subscriptions.len();
            if self.is_suspended {
                followers().for_each(|follower| follower.suspend(&all.wake));
            }
        }
    }
}

struct Poller {
    shared: Weak<Shared>,
    /// It survives a lost connection.
    position: Option<Position>,
    /// Whether the last poll succeeded, so that a failure and its end are logged once.
    reachable: bool,
}

impl Poller {
    /// Polls on one connection.
    async fn run_connected(&mut self) -> Result<End> {
        let Some(mut connection) = self.connect().await? else { return Ok(End::Followers) };
        let connected_at = Instant::now();
        let mut use_of_log = UseOfLog::new(connected_at);
        while let Some(shared) = self.followed() {
            let subscriptions = shared.followers.subscriptions();
            let sent = SentAt::now();
            let poll = timeout(POLL_TIMEOUT, self.poll(&shared, &mut connection, &subscriptions)).await;
            let poll = poll.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
            if poll.as_ref().err().is_some_and(misses_schema) {
                self.position = None;
            }
            let Polled { changed, read_only } = shared.typed(poll, Phase::Read)?;
            if !std::mem::replace(&mut self.reachable, true) {
                let cache = shared.cache_names();
                tracing::info!(%cache, tier = NAME, "the log in Postgres can be read again");
            }
            if !use_of_log.is_suspended {
                let followers =
                    subscriptions.iter().filter_map(|subscription| subscription.follower.upgrade());
                followers.for_each(|follower| follower.heartbeat(sent.heartbeat_at()));
            }
            if read_only && connected_at.elapsed() > READ_ONLY_FOR {
                shared.pool.renew();
                return Ok(End::ReadOnly);
            }
            let wake = Arc::clone(&shared.followers.wake);
            use_of_log.check(&shared.followers, &subscriptions);
            drop(shared);
            if use_of_log.is_suspended {
                use_of_log.is_suspended = timeout(SUSPENDED_INTERVAL, wake.notified()).await.is_err();
                continue;
            }
            let due = if changed { sent.at() } else { sent.at() + POLL_INTERVAL };
            sleep_until(due.max(Instant::now() + MIN_PAUSE)).await;
        }
        let _closed = timeout(CONNECT_TIMEOUT, connection.close()).await;
        Ok(End::Followers)
    }

    fn cache_names(&self) -> String {
        self.shared.upgrade().map(|shared| shared.cache_names()).unwrap_or_default()
    }

    /// Tells the caches of this handle that the log cannot be read.
    fn tell(&self, error: &Error) {
        let Some(shared) = self.shared.upgrade() else { return };
        let (cause, cure) = match error.finding() {
            Some(finding) => (finding.cause().to_owned(), finding.cure().to_owned()),
            None => (error.to_string(), "let this process reach the server".to_owned()),
        };
        let cause = format!(
            "the log in Postgres cannot be read, so changes by other processes are not known: {cause}"
        );
        shared.tell(&Finding::slows(FindingTopic::Log, cause, cure));
    }

    /// The shared part of the handle, if it is alive and has a follower.
    fn followed(&self) -> Option<Arc<Shared>> {
        self.shared.upgrade().filter(|shared| shared.followers.any_left())
    }

    async fn connect(&mut self) -> Result<Option<PgConnection>> {
        let Some(shared) = self.followed() else { return Ok(None) };
        shared.prepare_schema().await?;
        let mut connection = shared.pool.dial().await?.connection;
        let asking = within(CONNECT_TIMEOUT, async {
            let position = Position::of(&mut connection, &shared.statements().outbox).await;
            shared.typed(position, Phase::Read)
        });
        let position = asking.await?.ok_or_else(standby_error)?;
        // The old position still holds, unless this is another server or the server was restarted.
        if !self.position.as_ref().is_some_and(|known| known.is_same_server(&position)) {
            self.position = Some(position);
            shared.followers.report_loss_again();
        }
        Ok(Some(connection))
    }

    /// Polls once and notifies the subscriptions.
    async fn poll(
        &mut self,
        shared: &Shared,
        connection: &mut PgConnection,
        subscriptions: &[Subscription],
    ) -> std::result::Result<Polled, sqlx::Error> {
        let Some(position) = &mut self.position else { return Ok(Polled::default()) };
        let namespaces: BTreeSet<String> =
            subscriptions.iter().map(|subscription| subscription.namespace.clone()).collect();
        let namespaces: Vec<String> = namespaces.into_iter().collect();
        let read = position.read(connection, &shared.statements().outbox, &namespaces, true).await?;
        let changed = match read.changes {
            Changes::Complete(changes) => {
                for change in &changes {
                    subscriptions
                        .iter()
                        .filter(|subscription| subscription.namespace == change.namespace)
                        .for_each(|subscription| subscription.change(change.number, &change.notice));
                }
                !changes.is_empty()
            }
            Changes::Gap => {
                subscriptions.iter().for_each(|subscription| subscription.notify(&Notice::Lost));
                true
            }
        };
        Ok(Polled { changed, read_only: read.read_only })
    }
}

//! The invalidation log on Postgres alone: one follower a process, on a connection of its own, polls
//! the outbox.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::Duration,
};

use sqlx::{Connection, PgConnection};
use terrace_tier::{Error, ErrorKind, Follower, InvalidationLog, Notice, Replay, Result, SentAt};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::{
    error::{During, misses_schema, typed},
    followers::Following,
    outbox::{Position, Seen},
    pool::CONNECT_TIMEOUT,
    shared::Shared,
};

/// From one poll to the next while nothing changes. A change is heard of half of it later, and a poll
/// that finds nothing costs the server some 50 microseconds. A NOTIFY with each commit would cost the
/// writers nine tenths of their throughput: commits that notify take a lock one after the other.
const POLL: Duration = Duration::from_millis(20);
/// Behind a poll that found something, since more of it is likely, and between polls that take long.
const LEAST_PAUSE: Duration = Duration::from_millis(5);
/// A server that does not answer a poll for so long is connected to anew.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);
/// Between attempts to connect: twice as long each time, up to the second of these.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// The log of a handle, for its tiers.
pub(crate) struct Log(pub(crate) Arc<Shared>);

impl InvalidationLog for Log {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        follow(&self.0, namespace, follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

/// Adds a follower, unless it follows already, and starts the task that polls unless it runs.
pub(crate) fn follow(shared: &Arc<Shared>, namespace: &str, follower: Weak<dyn Follower>) {
    let polls = || tokio::spawn(poll(Arc::downgrade(shared)));
    shared.followers.add(namespace, follower, polls);
}

/// Polls until nobody follows any more, or the handle has gone.
async fn poll(shared: Weak<Shared>) {
    let mut poller = Poller { shared, position: None, heard: true };
    let mut pause = RETRY[0];
    while let Err(error) = poller.run().await {
        if std::mem::take(&mut poller.heard) {
            tracing::warn!(%error, "the log in Postgres is not heard; what others change is not known until it is");
            pause = RETRY[0];
        }
        sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        pause = (pause * 2).min(RETRY[1]);
    }
}

struct Poller {
    shared: Weak<Shared>,
    /// Kept over a lost connection.
    position: Option<Position>,
    heard: bool,
}

impl Poller {
    /// Polls on one connection; ends without an error when there is nobody to poll for.
    async fn run(&mut self) -> Result<()> {
        let Some(mut connection) = self.connect().await? else { return Ok(()) };
        while let Some(shared) = self.shared.upgrade().filter(|shared| shared.followers.are_there()) {
            let listening = shared.followers.listening();
            let sent = SentAt::now();
            let round = timeout(POLL_TIMEOUT, self.round(&shared, &mut connection, &listening)).await;
            let round = round.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
            if round.as_ref().err().is_some_and(misses_schema) {
                self.position = None;
            }
            let changed = shared.note(round, During::Read)?;
            if !std::mem::replace(&mut self.heard, true) {
                tracing::info!("the log in Postgres is heard again");
            }
            let followers = listening.iter().filter_map(|following| following.follower.upgrade());
            followers.for_each(|follower| follower.heartbeat(sent.heartbeat_at()));
            drop(shared);
            let due = if changed { sent.at() } else { sent.at() + POLL };
            sleep_until(due.max(Instant::now() + LEAST_PAUSE)).await;
        }
        let _closed = timeout(CONNECT_TIMEOUT, connection.close()).await;
        Ok(())
    }

    async fn connect(&mut self) -> Result<Option<PgConnection>> {
        let Some(shared) = self.shared.upgrade().filter(|shared| shared.followers.are_there()) else {
            return Ok(None);
        };
        shared.prepared().await?;
        let connecting = async {
            let mut connection = PgConnection::connect_with(&shared.pool.options()).await?;
            let position = Position::of(&mut connection, &shared.statements.outbox).await?;
            Ok((connection, position))
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        let connected = connected.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut));
        let (connection, position) = connected.map_err(|error| typed(error, During::Connect))?;
        let position = position.ok_or_else(|| {
            Error::new(ErrorKind::ReadOnly, "a standby has no log of its own: connect to the primary")
        })?;
        // Read on where we were, unless this is another server, or another life of it.
        if !self.position.as_ref().is_some_and(|known| known.is_of_the_server_of(&position)) {
            self.position = Some(position);
            shared.followers.warn_again();
        }
        Ok(Some(connection))
    }

    /// One poll, told to those who listen; whether it found anything.
    async fn round(
        &mut self,
        shared: &Shared,
        connection: &mut PgConnection,
        listening: &[Following],
    ) -> std::result::Result<bool, sqlx::Error> {
        let Some(position) = &mut self.position else { return Ok(false) };
        let namespaces: BTreeSet<String> =
            listening.iter().map(|following| following.namespace.clone()).collect();
        let namespaces: Vec<String> = namespaces.into_iter().collect();
        match position.read(connection, &shared.statements.outbox, &namespaces, true).await? {
            Seen::All(changes) => {
                for change in &changes {
                    let meant = listening.iter().filter(|following| following.namespace == change.namespace);
                    meant.for_each(|following| following.tell(&change.notice));
                }
                Ok(!changes.is_empty())
            }
            Seen::Gap => {
                listening.iter().for_each(|following| following.tell(&Notice::Lost));
                Ok(true)
            }
        }
    }
}

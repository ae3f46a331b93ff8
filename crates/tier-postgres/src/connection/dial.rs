//! New connections: to the first of several hosts that is a primary, with a login of the moment.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use sqlx::{AssertSqlSafe, ConnectOptions, PgConnection, Row, postgres::PgConnectOptions};
use terrace_tier::{
    Credentials, CredentialsProvider, Error, ErrorKind, Finding, FindingTopic, Result, Secrets,
};
use tokio::time::{sleep, timeout};

use super::{address::Address, timeout::CONNECT_TIMEOUT};
use crate::error::{Phase, typed};

/// The attempt at the next host begins so long after the one before, unless that one has failed already.
const NEXT_HOST_AFTER: Duration = Duration::from_millis(250);

/// How a handle connects.
pub(crate) struct Dialer {
    /// The servers of the URL, in its order. One of them is the primary.
    hosts: Vec<PgConnectOptions>,
    /// The host that was the primary at the last connect: the next attempt begins with it.
    preferred: AtomicUsize,
    /// Statements that each new session runs.
    settings: String,
    provider: Option<Arc<dyn CredentialsProvider>>,
    secrets: Secrets,
}

/// A new connection.
pub(crate) struct Dialed {
    pub(crate) connection: PgConnection,
    /// No host takes writes, and this one is no standby: its reads are right.
    pub(crate) read_only: bool,
    /// When the server was started, in microseconds since 1970: it tells servers apart.
    pub(crate) started: i64,
}

/// What became of one attempt.
enum Attempt {
    Primary(PgConnection, i64),
    ReadOnly(PgConnection, i64),
    Standby,
    Failed(Error),
}

impl Dialer {
    pub(crate) fn new(
        address: Address,
        settings: String,
        provider: Option<Arc<dyn CredentialsProvider>>,
    ) -> Self {
        let secrets = Secrets::default();
        address.passwords.iter().for_each(|password| secrets.add(password));
        let hosts = address.hosts.into_iter().map(|host| {
            // A pooler refuses parameters at the start of a session that it does not know, so none is sent
            // that we do not need. This one is for floating point numbers.
            host.extra_float_digits(None).disable_statement_logging()
        });
        Self { hosts: hosts.collect(), preferred: AtomicUsize::new(0), settings, provider, secrets }
    }

    /// The passwords of this handle, to take them out of foreign text.
    pub(crate) fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// Connects. The names of hosts are resolved anew. A standby is never used: it answers from the past.
    pub(crate) async fn connect(&self) -> Result<Dialed> {
        let login = timeout(CONNECT_TIMEOUT, self.login()).await.unwrap_or_else(|_| {
            let message = format!("the provider of credentials gave none within {CONNECT_TIMEOUT:?}");
            Err(Error::new(ErrorKind::Unavailable, message))
        })?;
        self.first_primary(login.as_ref()).await
    }

    async fn login(&self) -> Result<Option<Credentials>> {
        let Some(provider) = &self.provider else { return Ok(None) };
        let login = provider.credentials().await.map_err(|error| {
            let text = self.secrets.redact(&error.to_string()).into_owned();
            Error::new(ErrorKind::Unavailable, format!("the provider of credentials failed: {text}"))
        })?;
        self.secrets.add(login.expose_password());
        Ok(Some(login))
    }

    async fn first_primary(&self, login: Option<&Credentials>) -> Result<Dialed> {
        let first = self.preferred.load(Ordering::Relaxed);
        let count = self.hosts.len();
        let mut waiting = (0..count).map(|turn| (first + turn) % count);
        let mut running = FuturesUnordered::new();
        let (mut read_only, mut standbys, mut failure) = (None, 0, None);
        loop {
            if let Some(index) = waiting.next() {
                running.push(async move { (index, self.attempt(index, login).await) });
            }
            let (index, attempt) = tokio::select! {
                Some(ended) = running.next() => ended,
                () = sleep(NEXT_HOST_AFTER), if waiting.len() > 0 => continue,
                else => break,
            };
            match attempt {
                Attempt::Primary(connection, started) => {
                    self.preferred.store(index, Ordering::Relaxed);
                    return Ok(Dialed { connection, read_only: false, started });
                }
                Attempt::ReadOnly(connection, started) => {
                    read_only = Some(Dialed { connection, read_only: true, started });
                }
                Attempt::Standby => standbys += 1,
                Attempt::Failed(error) => failure = failure.or(Some(error)),
            }
        }
        match (read_only, failure) {
            (Some(dialed), _) => Ok(dialed),
            (None, Some(error)) => Err(error),
            (None, None) => Err(no_primary(standbys)),
        }
    }

    async fn attempt(&self, index: usize, login: Option<&Credentials>) -> Attempt {
        let Some(options) = self.hosts.get(index) else { return Attempt::Standby };
        let mut options = options.clone();
        if let Some(login) = login {
            options = options.password(login.expose_password());
            if let Some(user) = login.user() {
                options = options.username(user);
            }
        }
        let connecting = async {
            let mut connection = options.connect().await?;
            // One trip for the settings and the role. They are no startup parameters, which poolers refuse.
            let text = format!(
                "{}SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on', \
                     (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint",
                self.settings
            );
            let rows = sqlx::raw_sql(AssertSqlSafe(text)).fetch_all(&mut connection).await?;
            let role = rows.last().ok_or(sqlx::Error::RowNotFound)?;
            Ok((connection, role.try_get(0)?, role.try_get(1)?, role.try_get(2)?))
        };
        let connected = timeout(CONNECT_TIMEOUT, connecting).await;
        match connected.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))) {
            Ok((_, true, ..)) => Attempt::Standby,
            Ok((connection, false, true, started)) => Attempt::ReadOnly(connection, started),
            Ok((connection, false, false, started)) => Attempt::Primary(connection, started),
            Err(error) => Attempt::Failed(typed(error, Phase::Connect, &self.secrets)),
        }
    }
}

/// The error where all hosts answered and none is a primary. It is not transient where there is one host,
/// which is then the wrong one; of several, one is about to be promoted.
fn no_primary(standbys: usize) -> Error {
    let (kind, cause) = match standbys {
        0 | 1 => (ErrorKind::ReadOnly, "the server is a standby (it is in recovery)"),
        _ => (ErrorKind::Unavailable, "all servers of the URL are standbys (they are in recovery)"),
    };
    let cure =
        "connect to the primary, or name all servers in the URL: postgres://user:password@one,two/database";
    Finding::stops(FindingTopic::Role, cause, cure).into_error(kind)
}

/// Leaves out the options, which hold passwords.
impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer").field("hosts", &self.hosts.len()).finish_non_exhaustive()
    }
}

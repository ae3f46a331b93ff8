//! What an attempt to connect needs, asked anew at each attempt: the server, its name and the login.

use std::{
    io,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::FutureExt;
use redis::{ProtocolVersion, RedisConnectionInfo, RedisError};
use terrace_tier::{CredentialsProvider, Error, ErrorKind, Result, Secrets};
use tokio::time::{Instant, timeout_at};

use super::{
    address::{Address, Endpoint, Host},
    greeting::{greet, refusal, why_no_answer, why_no_tls},
    sentinel::Question,
    stream::{OpenError, Stream, open, open_unix},
    tls::Tls,
};
use crate::{
    error::{Effect, Foreign, client_error, error},
    findings::{config_error, role_error},
};

/// Opens streams to the server that is the one to use now. The supervisor of the shared connection, the reader
/// of the log and the listener ask it at each attempt.
pub(crate) struct Dialer {
    pub(crate) address: Address,
    pub(crate) sentinel_login: RedisConnectionInfo,
    /// TLS to the server, if the address asks for it. To read the trusted roots of the system takes milliseconds.
    pub(crate) tls: Option<Tls>,
    /// Whether a server on another host may be used without TLS.
    pub(crate) is_plaintext_allowed: bool,
    pub(crate) credentials: Option<Arc<dyn CredentialsProvider>>,
    pub(crate) secrets: Secrets,
    pub(crate) connect_timeout: Duration,
    /// Whether the server refused RESP3. Later attempts then begin with RESP2.
    pub(crate) is_resp2: AtomicBool,
}

/// A stream on which something that speaks Redis has answered, and the login for it.
pub(super) struct Dialed {
    pub(super) stream: Stream,
    pub(super) login: RedisConnectionInfo,
    /// The server that the sentinels named.
    pub(super) master: Option<Host>,
}

impl Dialer {
    /// Asks the sentinels, if there are any, resolves the name, opens a stream and greets the server.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where nothing answers before the deadline; [`ErrorKind::Config`] with a finding
    /// where what listens there cannot be used as it is configured.
    pub(super) async fn dial(&self, deadline: Instant) -> Result<Dialed> {
        let login = self.login(deadline).await?;
        let master = self.master(deadline).await?;
        let host = match (&self.address.endpoint, &master) {
            (Endpoint::Unix(path), _) => {
                let reached = async { greeted(open_unix(path).await?, &self.secrets).await };
                let stream = timeout_at(deadline, reached).await.unwrap_or(Err(Reach::Timeout));
                let stream = stream.map_err(|why| open_error(why, None, &self.secrets))?;
                return Ok(Dialed { stream, login, master });
            }
            (Endpoint::Server(host), _) | (_, Some(host)) => host,
            (Endpoint::Sentinels { .. }, None) => return Err(error(ErrorKind::Unavailable, "no primary")),
        };
        let tls = self.tls.as_ref();
        let reached = timeout_at(deadline, reach(host, tls, &self.secrets)).await;
        match reached.unwrap_or(Err(Reach::Timeout)) {
            Ok(stream) => Ok(Dialed { stream, login, master }),
            Err(why) => Err(self.explain(why, host, tls).await),
        }
    }

    /// The server that the sentinels name; `None` without sentinels.
    pub(super) async fn master(&self, deadline: Instant) -> Result<Option<Host>> {
        let Endpoint::Sentinels { sentinels, master } = &self.address.endpoint else { return Ok(None) };
        let question = Question {
            sentinels,
            master,
            login: &self.sentinel_login,
            tls: self.tls.as_ref(),
            secrets: &self.secrets,
        };
        // Half of the time is left to connect to the server that they name.
        let now = Instant::now();
        let host = question.ask(now + deadline.saturating_duration_since(now) / 2).await?;
        if !self.address.is_tls && !self.is_plaintext_allowed && !host.is_loopback() {
            return Err(config_error(
                terrace_tier::FindingTopic::Protocol,
                "the sentinels name a server on another host, without TLS",
                "use rediss+sentinel://, or allow it with allow_plaintext()",
            ));
        }
        Ok(Some(host))
    }

    async fn login(&self, deadline: Instant) -> Result<RedisConnectionInfo> {
        let mut login = self.address.login.clone().set_skip_set_lib_name();
        if let Some(provider) = &self.credentials {
            // The provider is the user's code, and this task must outlive it.
            let asked = AssertUnwindSafe(provider.credentials()).catch_unwind();
            let given = match timeout_at(deadline, asked).await {
                Ok(Ok(Ok(given))) => given,
                Ok(Ok(Err(cause))) => {
                    let cause = Foreign::new(&cause.to_string(), &self.secrets);
                    return Err(
                        error(ErrorKind::Unavailable, "the provider gave no login").with_source(cause)
                    );
                }
                Ok(Err(_panic)) => {
                    return Err(error(ErrorKind::Unavailable, "the provider of the login panicked"));
                }
                Err(_late) => {
                    return Err(error(ErrorKind::Unavailable, "the provider gave no login in time"));
                }
            };
            self.secrets.add(given.expose_password());
            if let Some(user) = given.user() {
                login = login.set_username(user);
            }
            login = login.set_password(given.expose_password());
        }
        let is_resp2 = self.is_resp2.load(Ordering::Relaxed);
        Ok(login.set_protocol(if is_resp2 { ProtocolVersion::RESP2 } else { ProtocolVersion::RESP3 }))
    }

    /// Whether the handshake failed because the server, or a proxy before it, knows no RESP3. The next attempt
    /// then uses RESP2.
    pub(super) fn falls_back(&self, cause: &RedisError, has_password: bool) -> bool {
        let details = cause.detail().unwrap_or_default();
        let is_unknown = cause.kind() == redis::ErrorKind::RESP3NotSupported
            || cause.code() == Some("NOPROTO")
            // Valkey answers so before the login, also where it was sent a login by a command that it does not know.
            || (cause.code() == Some("NOAUTH") && has_password)
            || (details.contains("unknown command") && details.to_ascii_uppercase().contains("HELLO"));
        is_unknown && !self.is_resp2.swap(true, Ordering::Relaxed)
    }

    /// Finds out why a server did not answer as it should.
    async fn explain(&self, why: Reach, host: &Host, tls: Option<&Tls>) -> Error {
        let explained = match (&why, tls) {
            (Reach::Handshake(cause), Some(tls)) if tls.certificate_error(cause).is_some() => None,
            (Reach::Handshake(_) | Reach::Timeout, Some(_)) => why_no_tls(host).await,
            (Reach::Answer(_), None) => why_no_answer(host).await,
            _ => None,
        };
        explained.unwrap_or_else(|| open_error(why, tls, &self.secrets))
    }
}

/// Why a server was not reached.
pub(super) enum Reach {
    Connect(io::Error),
    Handshake(io::Error),
    /// The stream ended before the answer to the greeting.
    Answer(io::Error),
    /// The answer to the greeting was a refusal.
    Refused(Error),
    Timeout,
}

impl From<OpenError> for Reach {
    fn from(why: OpenError) -> Self {
        match why {
            OpenError::Connect(cause) => Self::Connect(cause),
            OpenError::Handshake(cause) => Self::Handshake(cause),
        }
    }
}

/// A stream to `host` that has answered a greeting.
pub(super) async fn reach(host: &Host, tls: Option<&Tls>, secrets: &Secrets) -> Result<Stream, Reach> {
    greeted(open(host, tls).await?, secrets).await
}

async fn greeted(mut stream: Stream, secrets: &Secrets) -> Result<Stream, Reach> {
    let greeting = greet(&mut stream).await.map_err(Reach::Answer)?;
    match refusal(greeting, secrets) {
        Some(refused) => Err(Reach::Refused(refused)),
        None => Ok(stream),
    }
}

pub(super) fn open_error(why: Reach, tls: Option<&Tls>, secrets: &Secrets) -> Error {
    let cause = match why {
        Reach::Refused(refused) => return refused,
        Reach::Timeout => return error(ErrorKind::Unavailable, "the server did not answer in time"),
        Reach::Connect(cause) | Reach::Handshake(cause) | Reach::Answer(cause) => cause,
    };
    match tls.and_then(|tls| tls.certificate_error(&cause)) {
        Some(certificate) => certificate,
        None => client_error(&cause.into(), Effect::Read, secrets),
    }
}

/// The error where the sentinels name another server than the one in use.
pub(super) fn another_master() -> Error {
    role_error("the sentinels name another server as the primary", "wait until the cache has connected to it")
}

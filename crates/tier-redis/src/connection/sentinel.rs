//! Asks sentinels which server is the primary.

use futures_util::{StreamExt, stream::FuturesUnordered};
use redis::{AsyncConnectionConfig, RedisConnectionInfo, Value, aio::MultiplexedConnection};
use terrace_tier::{Error, ErrorKind, FindingTopic, Result, Secrets};
use tokio::time::{Instant, timeout_at};

use super::{
    address::Host,
    connect::Driver,
    dialer::{open_error, reach},
    tls::Tls,
};
use crate::{
    error::{Effect, client_error, error, unexpected_reply},
    findings::config_error,
};

/// What is needed to ask.
pub(super) struct Question<'a> {
    pub(super) sentinels: &'a [Host],
    pub(super) master: &'a str,
    pub(super) login: &'a RedisConnectionInfo,
    pub(super) tls: Option<&'a Tls>,
    pub(super) secrets: &'a Secrets,
}

impl Question<'_> {
    /// Asks all sentinels at once. What more than half of them say is the answer; if fewer of them answer before
    /// the deadline, it is what most of those say. A sentinel that was stopped may still name the old primary.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`] where no sentinel answers, [`ErrorKind::Config`] where none knows the master.
    pub(super) async fn ask(&self, deadline: Instant) -> Result<Host> {
        let mut answers: FuturesUnordered<_> = self.sentinels.iter().map(|host| self.ask_one(host)).collect();
        let mut votes: Vec<(Host, usize)> = Vec::new();
        let mut last_error = None;
        while let Ok(Some(answer)) = timeout_at(deadline, answers.next()).await {
            match answer {
                Ok(host) => match votes.iter_mut().find(|(known, _)| *known == host) {
                    Some((_, count)) => *count += 1,
                    None => votes.push((host, 1)),
                },
                Err(why) => last_error = more_telling(last_error, why),
            }
            if let Some((host, _)) = votes.iter().find(|(_, count)| *count > self.sentinels.len() / 2) {
                return Ok(host.clone());
            }
        }
        // Of equally many votes the first wins.
        let most = votes.into_iter().rev().max_by_key(|(_, count)| *count);
        most.map(|(host, _)| host).ok_or_else(|| last_error.unwrap_or_else(no_sentinel))
    }

    async fn ask_one(&self, sentinel: &Host) -> Result<Host> {
        let stream = reach(sentinel, self.tls, self.secrets).await;
        let stream = stream.map_err(|why| open_error(why, self.tls, self.secrets))?;
        let config = AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None);
        let connected = MultiplexedConnection::new_with_config(self.login, stream, config).await;
        let (mut socket, driver) =
            connected.map_err(|cause| client_error(&cause, Effect::Read, self.secrets))?;
        let _driver = Driver::spawn(driver);
        let mut ask = redis::cmd("SENTINEL");
        ask.arg("get-master-addr-by-name").arg(self.master);
        let reply = socket.send_packed_command(&ask).await;
        match reply.map_err(|cause| client_error(&cause, Effect::Read, self.secrets))? {
            Value::Nil => Err(unknown_master()),
            Value::ServerError(answer) => Err(client_error(&answer.into(), Effect::Read, self.secrets)),
            Value::Array(parts) => {
                let (name, port): (String, u16) =
                    redis::from_redis_value(Value::Array(parts)).map_err(|_| unexpected_reply())?;
                Ok(Host { name, port })
            }
            _ => Err(unexpected_reply()),
        }
    }
}

/// The error that tells the user more: one that waiting does not resolve.
fn more_telling(last: Option<Error>, next: Error) -> Option<Error> {
    match last {
        Some(last) if !last.is_transient() || next.is_transient() => Some(last),
        _ => Some(next),
    }
}

fn no_sentinel() -> Error {
    error(ErrorKind::Unavailable, "no sentinel answers")
}

fn unknown_master() -> Error {
    config_error(
        FindingTopic::Role,
        "the sentinels know no master of this name",
        "give the name that `sentinel monitor` has in their configuration",
    )
}

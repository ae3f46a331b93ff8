//! Counters that all processes share: a hash for each group.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{Counters, MAX_COUNTERS, OTHER_COUNTER, Result};
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, NAME, during, server_error, unexpected_reply},
    scripts::{Call, Script, ScriptCall},
};

/// How long one request may take. Nobody waits for it but a task in the background and readers of statistics.
const BUDGET: Duration = Duration::from_secs(1);
/// How long a group is kept after the last addition.
const KEPT: Duration = Duration::from_secs(400 * 24 * 3600);

/// One group of counters.
pub(crate) struct RedisCounters {
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) key: Bytes,
}

#[async_trait]
impl Counters for RedisCounters {
    async fn add(&self, deltas: &[(String, i64)]) -> Result<()> {
        let number = |number: u128| Bytes::from(number.to_string());
        let mut args = vec![number(MAX_COUNTERS as u128), OTHER_COUNTER.into(), number(KEPT.as_millis())];
        for (name, delta) in deltas {
            args.extend([Bytes::copy_from_slice(name.as_bytes()), Bytes::from(delta.to_string())]);
        }
        let call = Call { script: Script::Count, keys: vec![self.key.clone()], args };
        let deadline = Instant::now() + BUDGET;
        let added = within(deadline, Effect::Write, call.run(&self.manager, Effect::Write)).await;
        let answer = added.and_then(|reply| match reply {
            Value::ServerError(answer) => Err(server_error(&answer)),
            _ => Ok(()),
        });
        answer.map_err(|error| during(error, "count").at_tier(NAME))
    }

    async fn read(&self) -> Result<Vec<(String, i64)>> {
        let mut command = Cmd::new();
        command.arg("HGETALL").arg(&self.key[..]);
        let sent = self.manager.send(&command, Effect::Read);
        let read = within(Instant::now() + BUDGET, Effect::Read, sent).await;
        read.and_then(|reply| match reply {
            Value::ServerError(answer) => Err(server_error(&answer)),
            reply => redis::from_redis_value(reply).map_err(|_| unexpected_reply()),
        })
        .map_err(|error| during(error, "read counters").at_tier(NAME))
    }
}

//! How operations travel: a script by its hash, and in full where the server has forgotten it.

use std::sync::Arc;

use bytes::Bytes;
use redis::{Cmd, Pipeline, Value};
use terrace_tier::{Reply, Result, Version};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect},
    link::Link,
    script::Call,
    space::NamespaceState,
    write,
};

/// The most commands, and about the most bytes, of one round trip: beyond, everyone else waits.
pub(crate) const PIPELINE: usize = 512;
const PIPELINE_BYTES: usize = 4 << 20;

/// One operation, ready to be sent.
#[derive(Debug)]
pub(crate) enum Request {
    Script(Call),
    /// A plain SET, which keeps this version.
    Set(Cmd, Version),
}

impl Request {
    fn command(&self) -> Cmd {
        match self {
            Self::Script(call) => call.by_hash(),
            Self::Set(command, _) => command.clone(),
        }
    }

    fn answer(&self, value: Value, space: &NamespaceState, asked_at: Instant) -> Result<Reply> {
        match (self, value) {
            (_, Value::ServerError(answer)) => Err(fault::of_server(&answer)),
            (Self::Set(_, version), Value::Okay) => Ok(Reply::Kept(*version)),
            (Self::Script(_), Value::BulkString(bytes)) => {
                let (epoch, reply) = write::answer(&Bytes::from(bytes))?;
                space.heard.hear(Some(epoch), asked_at);
                Ok(reply)
            }
            _ => Err(fault::unreadable()),
        }
    }
}

/// One operation in one trip; a second one where the server does not know the script.
pub(crate) async fn one(
    link: &Arc<Link>,
    space: &NamespaceState,
    request: Request,
    effect: Effect,
) -> Result<Reply> {
    let asked_at = Instant::now();
    let value = match &request {
        Request::Script(call) => run(link, call, effect).await?,
        Request::Set(command, _) => link.send(command, effect).await?,
    };
    request.answer(value, space, asked_at)
}

/// A script's reply, which may be [`Value::ServerError`].
pub(crate) async fn run(link: &Arc<Link>, call: &Call, effect: Effect) -> Result<Value> {
    let value = link.send(&call.by_hash(), effect).await?;
    if is_unknown_script(&value) { link.send(&call.in_full(), effect).await } else { Ok(value) }
}

/// Many requests of one kind, in one round trip for each page: one reply a request, in order, which
/// may be [`Value::ServerError`].
pub(crate) async fn all(link: &Arc<Link>, requests: &[Request], effect: Effect) -> Result<Vec<Value>> {
    let mut found = Vec::with_capacity(requests.len());
    for page in requests.chunks(PIPELINE) {
        found.extend(values(link, page, effect).await?);
    }
    Ok(found)
}

/// Many operations of one kind in one round trip for each page: one answer each, in order.
pub(crate) async fn page(
    link: &Arc<Link>,
    space: &NamespaceState,
    requests: &[Request],
    effect: Effect,
) -> Vec<Result<Reply>> {
    let asked_at = Instant::now();
    let values = match values(link, requests, effect).await {
        Ok(values) => values,
        Err(error) => return requests.iter().map(|_| Err(error.clone())).collect(),
    };
    let answers = requests.iter().zip(values);
    answers.map(|(request, value)| request.answer(value, space, asked_at)).collect()
}

async fn values(link: &Arc<Link>, requests: &[Request], effect: Effect) -> Result<Vec<Value>> {
    let mut commands = Pipeline::with_capacity(requests.len());
    for request in requests {
        commands.add_command(request.command());
    }
    let mut values = link.send_many(&commands, effect).await?;
    let unknown: Vec<usize> = (0..values.len()).filter(|at| is_unknown_script(&values[*at])).collect();
    if let Some(Request::Script(call)) = unknown.first().map(|at| &requests[*at]) {
        let mut again = Pipeline::with_capacity(1 + unknown.len());
        again.add_command(call.load());
        for at in &unknown {
            again.add_command(requests[*at].command());
        }
        let late = link.send_many(&again, effect).await?;
        for (at, value) in unknown.into_iter().zip(late.into_iter().skip(1)) {
            values[at] = value;
        }
    }
    Ok(values)
}

/// Where each page of `sizes` (the bytes of each operation) ends.
pub(crate) fn pages(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut ends, mut count, mut bytes, mut at) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        if count > 0 && (count == PIPELINE || bytes + size > PIPELINE_BYTES) {
            ends.push(at);
            (count, bytes) = (0, 0);
        }
        (count, bytes, at) = (count + 1, bytes + size, at + 1);
    }
    if count > 0 {
        ends.push(at);
    }
    ends
}

fn is_unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(answer) if answer.code() == "NOSCRIPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_in_operations_and_bytes() {
        assert_eq!(pages(std::iter::empty()), Vec::<usize>::new());
        assert_eq!(pages([10; 100].into_iter()), [100]);
        assert_eq!(pages([10; 1_100].into_iter()), [512, 1_024, 1_100]);
        let mebi = 1 << 20;
        assert_eq!(pages([mebi; 9].into_iter()), [4, 8, 9]);
        assert_eq!(pages([9 * mebi, 1].into_iter()), [1, 2]);
    }
}

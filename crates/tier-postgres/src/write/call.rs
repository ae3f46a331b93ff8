//! Writes of concurrent callers, which share statements.

use std::{slice, sync::Arc};

use terrace_tier::{BatchCall, Error, ErrorKind, Op, Reply, Result, SendMark, TierKey};

use super::{Failure, bytes_of, write};
use crate::{error::missing_reply, namespace::NamespaceRow};

/// The writes in one namespace.
pub(crate) struct WriteCall(pub(crate) Arc<NamespaceRow>);

/// A write of one caller, and the decision whether it is sent.
pub(crate) struct WriteRequest {
    pub(crate) write: (TierKey, Op),
    pub(crate) mark: SendMark,
}

/// What became of one write.
pub(crate) enum Outcome {
    /// The server answered it, or an error of the whole statement is its answer.
    Answered(Result<Reply>),
    /// The statement was rolled back, perhaps because of another write in it. Its caller sends it alone.
    RolledBack((TierKey, Op)),
}

impl BatchCall for WriteCall {
    type Request = WriteRequest;
    type Reply = Outcome;

    async fn one(&self, request: WriteRequest) -> Result<Outcome> {
        let row = &self.0;
        let id = row.id().await?;
        let session = row.shared.pool.session().await?;
        if !request.mark.send() {
            return Err(withdrawn());
        }
        let replies = write(row, id, session, slice::from_ref(&request.write)).await;
        let reply = replies.map(|mut replies| replies.pop()).map_err(|failure| failure.error);
        Ok(Outcome::Answered(reply.and_then(|reply| reply.unwrap_or_else(|| Err(missing_reply())))))
    }

    async fn many(&self, requests: Vec<WriteRequest>) -> Result<Vec<Outcome>> {
        let row = &self.0;
        let id = row.id().await?;
        let session = row.shared.pool.session().await?;
        // The statement is sent next. What its caller has given up since it was queued is left out.
        let mut writes = Vec::with_capacity(requests.len());
        let mut is_sent = Vec::with_capacity(requests.len());
        for request in requests {
            is_sent.push(request.mark.send());
            if is_sent.last() == Some(&true) {
                writes.push(request.write);
            }
        }
        let sent = match writes.is_empty() {
            true => Vec::new(),
            false => outcomes(write(row, id, session, &writes).await, writes),
        };
        let mut sent = sent.into_iter();
        let outcome = |is_sent| match is_sent {
            true => sent.next().unwrap_or_else(|| Outcome::Answered(Err(missing_reply()))),
            false => Outcome::Answered(Err(withdrawn())),
        };
        Ok(is_sent.into_iter().map(outcome).collect())
    }

    fn bytes(&self, request: &WriteRequest) -> usize {
        bytes_of(&request.write)
    }
}

fn outcomes(answer: Result<Vec<Result<Reply>>, Failure>, writes: Vec<(TierKey, Op)>) -> Vec<Outcome> {
    match answer {
        Ok(replies) => replies.into_iter().map(Outcome::Answered).collect(),
        Err(failure) if failure.may_be_of_one_key => writes.into_iter().map(Outcome::RolledBack).collect(),
        Err(failure) => writes.iter().map(|_| Outcome::Answered(Err(failure.error.clone()))).collect(),
    }
}

/// The answer to a caller that has stopped waiting, which nobody reads.
fn withdrawn() -> Error {
    Error::new(ErrorKind::Timeout, "the caller has stopped waiting, and nothing was sent")
}

//! Many requests in few round trips.

use std::sync::Arc;

use redis::{Pipeline, Value};
use terrace_tier::{Error, ErrorKind, Reply, Result};
use tokio::time::Instant;

use super::{Action, Request, is_unknown_script};
use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, error, unexpected_reply},
    namespace::NamespaceState,
};

/// The most commands of one round trip. A longer one would delay all other callers.
pub(crate) const PAGE_REQUESTS: usize = 512;
/// About the most bytes of one round trip.
const PAGE_BYTES: usize = 4 << 20;

/// A batch of operations of one kind, with a reply for each.
pub(crate) struct Batch {
    /// The replies in order. A request without a reply has an error.
    replies: Vec<Result<Reply>>,
    requests: Vec<Request>,
    /// The index among the replies, and the size in bytes, of each request.
    indexes: Vec<(usize, usize)>,
}

impl Batch {
    pub(crate) fn with_capacity(operations: usize) -> Self {
        Self { replies: Vec::with_capacity(operations), requests: Vec::new(), indexes: Vec::new() }
    }

    /// Adds an operation of about `size` bytes.
    pub(crate) fn push(&mut self, action: Action, size: usize) {
        let index = self.replies.len();
        self.replies.push(match action {
            Action::Answer(reply) => reply,
            Action::Send(request) => {
                self.requests.push(request);
                self.indexes.push((index, size));
                Err(unexpected_reply())
            }
        });
    }

    /// Sends the requests, one round trip for each page, and returns the replies in order.
    pub(crate) async fn send(
        mut self,
        manager: &Arc<ConnectionManager>,
        state: &NamespaceState,
        deadline: Instant,
        effect: Effect,
    ) -> Vec<Result<Reply>> {
        let mut start = 0;
        for end in page_ends(self.indexes.iter().map(|(_, size)| *size)) {
            let page = &self.requests[start..end];
            let replies = if Instant::now() < deadline {
                let sent = async { Ok(send_page(manager, state, page, effect).await) };
                within(deadline, effect, sent).await
            } else {
                let message = "the budget of the batch ended before this operation was sent";
                Err(error(ErrorKind::Timeout, message))
            };
            let replies = replies.unwrap_or_else(|error| errors(page, &error));
            for ((index, _), reply) in self.indexes[start..end].iter().zip(replies) {
                self.replies[*index] = reply;
            }
            start = end;
        }
        self.replies
    }
}

/// Sends requests of one kind, one round trip for each page. One value for each request, in order, which
/// may be [`Value::ServerError`].
pub(crate) async fn send_all(
    manager: &Arc<ConnectionManager>,
    requests: &[Request],
    effect: Effect,
) -> Result<Vec<Value>> {
    let mut values = Vec::with_capacity(requests.len());
    for page in requests.chunks(PAGE_REQUESTS) {
        values.extend(values_of(manager, page, effect).await?);
    }
    Ok(values)
}

/// Sends a page in one round trip.
async fn send_page(
    manager: &Arc<ConnectionManager>,
    state: &NamespaceState,
    page: &[Request],
    effect: Effect,
) -> Vec<Result<Reply>> {
    let sent_at = Instant::now();
    match values_of(manager, page, effect).await {
        Ok(values) => {
            let replies = page.iter().zip(values);
            replies.map(|(request, value)| request.reply(value, state, sent_at)).collect()
        }
        Err(error) => errors(page, &error),
    }
}

fn errors(page: &[Request], error: &Error) -> Vec<Result<Reply>> {
    page.iter().map(|_| Err(error.clone())).collect()
}

/// Sends a page in one round trip, or in two if the server does not know the script.
async fn values_of(manager: &Arc<ConnectionManager>, page: &[Request], effect: Effect) -> Result<Vec<Value>> {
    let mut commands = Pipeline::with_capacity(page.len());
    for request in page {
        commands.add_command(request.command());
    }
    let mut values = manager.send_many(&commands, effect).await?;
    let unknown: Vec<usize> = (0..values.len()).filter(|at| is_unknown_script(&values[*at])).collect();
    if let Some(Request::Script(call)) = unknown.first().map(|at| &page[*at]) {
        // The first call brings the script, and the server then knows it for the others.
        let mut again = Pipeline::with_capacity(unknown.len());
        again.add_command(call.in_full());
        for at in &unknown[1..] {
            again.add_command(page[*at].command());
        }
        let late = manager.send_many(&again, effect).await?;
        for (at, value) in unknown.into_iter().zip(late) {
            values[at] = value;
        }
    }
    Ok(values)
}

/// The end of each page, for requests of these sizes in bytes.
fn page_ends(sizes: impl Iterator<Item = usize>) -> Vec<usize> {
    let (mut ends, mut count, mut bytes, mut at) = (Vec::new(), 0, 0, 0);
    for size in sizes {
        if count > 0 && (count == PAGE_REQUESTS || bytes + size > PAGE_BYTES) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_bounded_in_operations_and_bytes() {
        assert_eq!(page_ends(std::iter::empty()), Vec::<usize>::new());
        assert_eq!(page_ends([10; 100].into_iter()), [100]);
        assert_eq!(page_ends([10; 1_100].into_iter()), [512, 1_024, 1_100]);
        let mebi = 1 << 20;
        assert_eq!(page_ends([mebi; 9].into_iter()), [4, 8, 9]);
        assert_eq!(page_ends([9 * mebi, 1].into_iter()), [1, 2]);
    }
}

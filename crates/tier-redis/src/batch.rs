//! Operations on many keys: one MGET, one pipeline of scripts.

use bytes::Bytes;
use terrace_tier::{Error, ErrorKind, Fence, Op, Reply, Result, TierKey};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect, error},
    link::within,
    reads::read_page,
    send::{self, Request},
    tier::{Found, Plan, RedisTier, is_asked_over},
    write,
};

impl RedisTier {
    pub(crate) async fn read_batch(
        &self,
        batch: Vec<(TierKey, Op)>,
        deadline: Instant,
    ) -> Vec<Result<Reply>> {
        self.renew_terms();
        let keys: Vec<Bytes> = batch.iter().map(|(key, _)| self.state.layout.cell(key)).collect();
        let mut found = Vec::with_capacity(keys.len());
        for page in keys.chunks(send::PIPELINE) {
            let read = read_page(&self.link, page, &self.state);
            match within(deadline, Effect::Read, read).await {
                Ok(seen) => found.extend(seen.into_iter().map(|seen| Ok(self.judge(seen)))),
                Err(error) => found.extend(page.iter().map(|_| Err(error.clone()))),
            }
        }
        let mut replies = Vec::with_capacity(keys.len());
        let mut missing = Vec::new();
        for ((at, found), (_, op)) in found.into_iter().enumerate().zip(batch) {
            replies.push(match found {
                Err(error) => Err(error),
                Ok(Found::Entry(stored)) if !is_asked_over(&op, stored.version) => Ok(Reply::Hit(stored)),
                Ok(_) => {
                    if op != Op::Get {
                        missing.push((at, op));
                    }
                    Ok(Reply::Miss(Fence::default()))
                }
            });
        }
        let (places, ops): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
        let leases = places.iter().zip(ops).map(|(at, op)| (keys[*at].clone(), Bytes::new(), op)).collect();
        for (at, lease) in places.into_iter().zip(self.write_batch(leases, deadline, Effect::Read).await) {
            replies[at] = lease;
        }
        replies
    }

    /// Scripts in pipelines: one trip a page. For each the cell, what the log is to be told, and the
    /// operation.
    pub(crate) async fn write_batch(
        &self,
        batch: Vec<(Bytes, Bytes, Op)>,
        deadline: Instant,
        effect: Effect,
    ) -> Vec<Result<Reply>> {
        let mut replies = Vec::with_capacity(batch.len());
        let mut requests = Vec::new();
        let mut places = Vec::new();
        let mut sizes = Vec::new();
        for (at, (key, note, op)) in batch.into_iter().enumerate() {
            let size = key.len() + write::body_bytes(&op);
            let plan = match effect {
                Effect::Read => self.plan_lease(key, op),
                Effect::Write => self.plan_write(key, note, op),
            };
            replies.push(match plan {
                Plan::Answer(answer) => answer,
                Plan::Send(request) => {
                    requests.push(request);
                    places.push(at);
                    sizes.push(size);
                    Err(fault::unreadable())
                }
            });
        }
        let mut start = 0;
        for end in send::pages(sizes.into_iter()) {
            let answers = self.send_page(&requests[start..end], deadline, effect).await;
            for (at, answer) in places[start..end].iter().zip(answers) {
                replies[*at] = answer;
            }
            start = end;
        }
        replies
    }

    async fn send_page(&self, page: &[Request], deadline: Instant, effect: Effect) -> Vec<Result<Reply>> {
        let late = |error: Error| page.iter().map(|_| Err(error.clone())).collect();
        if Instant::now() >= deadline {
            return late(error(
                ErrorKind::Timeout,
                "the budget of the batch was used up before this was sent",
            ));
        }
        let sent = async { Ok(send::page(&self.link, &self.state, page, effect).await) };
        within(deadline, effect, sent).await.unwrap_or_else(late)
    }
}

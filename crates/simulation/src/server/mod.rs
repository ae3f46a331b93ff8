//! A server: what it does with a request.

mod leases;
mod log;

use futures_util::FutureExt;
use terrace_conformance::Fake;
use terrace_tier::{Error, ErrorKind, Op, Publication, Reply, Result, TierKey};

pub(crate) use leases::{LeaseDesk, LeaseTable};
pub(crate) use log::{LogSettings, Logbook, Stream};

use crate::{
    encoding,
    message::{Link, Push, Request, Response, Target},
    recorder::Recorder,
    witness,
};

/// A fake tier, its invalidation log, and the leases that processes wait for there.
pub(crate) struct Server {
    pub(crate) fake: Fake,
    pub(crate) log: Logbook,
    pub(crate) leases: LeaseDesk,
}

/// One request while a server carries it out.
pub(crate) struct Execution<'a> {
    pub(crate) link: Link,
    /// The caller has given up.
    pub(crate) late: bool,
    pub(crate) recorder: &'a Recorder,
    /// What is sent before the response.
    pub(crate) pushes: Vec<Push>,
}

impl Server {
    /// Carries a request out; `None` where the server holds the response back.
    pub(crate) fn carry_out(&self, request: &Request, run: &mut Execution<'_>) -> Option<Response> {
        if run.late && !request.is_of_log() {
            run.recorder.count(|counts| counts.late += 1);
        }
        Some(match request {
            Request::One(target, key, op) => Response::One(self.apply(target, key, op, run)),
            Request::Many(target, batch) => {
                let replies = batch.iter().map(|(key, op)| self.apply(target, key, op, run));
                Response::Many(replies.collect())
            }
            Request::Clear(target) => {
                let cleared = at_once(target.tier.clear());
                if cleared.is_ok() {
                    self.log.append_clear(target, run.recorder);
                }
                Response::Done(cleared)
            }
            Request::Ping(target) => Response::Done(at_once(target.tier.ping())),
            Request::Publish(target, publication) => Response::One(self.publish(target, publication, run)),
            Request::Look(leases, listener) => {
                Response::Statuses(Ok(self.leases.look(&self.fake, leases, listener)))
            }
            Request::Sign(leases, life) => {
                self.leases.sign(leases, self.fake.now().after(*life));
                Response::Done(Ok(()))
            }
            Request::GiveBack(lease) => {
                run.pushes.extend(self.leases.give_back(lease));
                Response::Done(Ok(()))
            }
            Request::End => Response::Place(Ok(self.log.end())),
            Request::Since(namespace, place) => Response::News(Ok(self.log.since(namespace, place))),
            Request::Join(known) => Response::Joined(Ok(self.log.join(known.as_ref(), run.recorder))),
            Request::Follow(..) => return None,
        })
    }

    fn apply(&self, target: &Target, key: &TierKey, op: &Op, run: &mut Execution<'_>) -> Result<Reply> {
        if run.link.fussy && encoding::value_in(op).is_some_and(|value| value % 3 == 0) {
            return Err(Error::new(ErrorKind::TooLarge, "a multiple of 3"));
        }
        let reply = at_once(target.tier.apply(key, op.clone()));
        witness::carried_out(run.recorder, run.link, run.late, key, op, &reply);
        if let Ok(reply) = &reply {
            self.log.append(target, run.link, key, op, reply, run.recorder);
        }
        run.pushes.extend(self.leases.ended(&self.fake, &target.namespace, key));
        reply
    }

    fn publish(&self, target: &Target, publication: &Publication, run: &mut Execution<'_>) -> Result<Reply> {
        let none = || Error::new(ErrorKind::Unsupported, "the server keeps no watermarks");
        let tier = target.tier.publish().ok_or_else(none)?;
        let reply = at_once(tier.publish(publication.clone()));
        if let Ok(Reply::Kept(version)) = &reply {
            self.log.append_step(target, run.link, publication, *version, run.recorder);
            for dropped in &publication.drops {
                run.pushes.extend(self.leases.ended(&self.fake, &target.namespace, &dropped.key));
            }
        }
        reply
    }
}

/// The result of a call of a fake, which never waits.
fn at_once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never().unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "the server hangs")))
}

//! One call of a process on its way to a server and back.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use terrace_tier::{
    Error, ErrorKind, Namespace, Notice, Op, Publication, Reply, Result, Role, Tier, TierKey,
    lease::LeaseStatus,
};

use super::{
    leases::{Desk, Lease, Listener},
    log::{Cursor, Logbook, Round},
    network::{Network, Way},
    witness,
};
use crate::history::Process;

/// Who talks to which server, and what that is to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The place of the process, whichever life it is in.
    pub(super) slot: usize,
    pub(super) process: Process,
    pub(super) server: usize,
    pub(super) role: Role,
    /// The server issues the versions of a cache without a store.
    pub(super) authority: bool,
    /// The server takes no value that is a multiple of 3.
    pub(super) fussy: bool,
}

/// One call: it is settled once, if at all.
pub(super) struct Call {
    pub(super) link: Link,
    pub(super) ask: Ask,
    /// Its caller has given up, or is dead.
    gone: AtomicBool,
    settled: Mutex<(Option<Answer>, Option<Waker>)>,
}

pub(super) enum Ask {
    One(Target, TierKey, Op),
    Many(Target, Vec<(TierKey, Op)>),
    Clear(Target),
    Ping(Target),
    /// A relay's step.
    Publish(Target, Publication),
    /// A relay asks for the end of the truth's log.
    End(Arc<Logbook>),
    /// A relay asks what has happened in a namespace behind a place.
    Since(Arc<Logbook>, String, Bytes),
    /// A process looks at leases of others, and waits for their end.
    Look(Arc<Desk>, Vec<Lease>, Listener),
    /// A holder shows a sign of life that counts for so long.
    Sign(Arc<Desk>, Vec<Lease>, Duration),
    /// A holder gives up.
    GiveBack(Arc<Desk>, Lease),
    /// A follower asks where to begin, or whether it may go on.
    Join(Arc<Logbook>, Option<Cursor>),
    /// A follower asks what was appended; the server holds the answer back for a while.
    Follow(Arc<Logbook>, Cursor),
}

/// The tier that a call is for.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) tier: Arc<dyn Tier>,
    pub(super) space: Arc<Namespace>,
    /// What changes are appended to.
    pub(super) log: Arc<Logbook>,
    /// Where the leases of its keys are waited for.
    pub(super) desk: Arc<Desk>,
    /// The follower that the change is known to; zero for none.
    pub(super) origin: Process,
}

pub(super) enum Answer {
    One(Result<Reply>),
    Many(Vec<Result<Reply>>),
    Done(Result<()>),
    Place(Result<Bytes>),
    News(Result<Option<(Vec<Notice>, Bytes)>>),
    Joined(Result<Cursor>),
    Read(Result<Round>),
    Sights(Result<Vec<LeaseStatus>>),
}

impl Answer {
    /// That something was done.
    pub(super) fn done(self) -> Result<()> {
        match self {
            Self::Done(done) => done,
            _ => Err(Error::new(ErrorKind::Backend, "an answer to another question")),
        }
    }
}

impl Ask {
    /// A number for what is asked: its kind, and the first key.
    pub(super) fn name(&self) -> u64 {
        let of = |key: &TierKey, op: &Op| {
            witness::key_of(key).wrapping_mul(16).wrapping_add(crate::Call::of(op) as u64)
        };
        match self {
            Self::One(_, key, op) => of(key, op),
            Self::Many(_, batch) => batch.first().map_or(0, |(key, op)| of(key, op)),
            Self::Clear(_) => u64::MAX,
            Self::Ping(_) => u64::MAX - 1,
            Self::Join(..) => u64::MAX - 2,
            Self::Follow(..) => u64::MAX - 3,
            Self::Publish(..) => u64::MAX - 4,
            Self::End(_) => u64::MAX - 5,
            Self::Since(..) => u64::MAX - 6,
            Self::Look(..) => u64::MAX - 7,
            Self::Sign(..) => u64::MAX - 8,
            Self::GiveBack(..) => u64::MAX - 9,
        }
    }

    /// Whether it goes over the connection of a follower.
    pub(super) fn is_of_log(&self) -> bool {
        matches!(self, Self::Join(..) | Self::Follow(..))
    }
}

impl Call {
    /// Sends a call and waits for its answer; for ever, where a message is lost.
    pub(super) async fn make(network: &Network, link: Link, ask: Ask) -> Answer {
        let (gone, settled) = (AtomicBool::new(false), Mutex::default());
        let call = Arc::new(Self { link, ask, gone, settled });
        network.send(Way::There, Arc::clone(&call), None);
        let waiting = Waiting(call);
        poll_fn(|context| {
            let mut settled = waiting.0.settled.lock();
            match settled.0.take() {
                Some(answer) => Poll::Ready(answer),
                None => {
                    settled.1 = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }

    pub(super) fn settle(&self, answer: Answer) {
        let waker = {
            let mut settled = self.settled.lock();
            settled.0 = Some(answer);
            settled.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// What a server that is down answers.
    pub(super) fn refused(&self) -> Answer {
        let error = || Error::new(ErrorKind::Unavailable, "the server is down");
        match &self.ask {
            Ask::One(..) | Ask::Publish(..) => Answer::One(Err(error())),
            Ask::End(_) => Answer::Place(Err(error())),
            Ask::Since(..) => Answer::News(Err(error())),
            Ask::Many(_, batch) => Answer::Many(batch.iter().map(|_| Err(error())).collect()),
            Ask::Clear(_) | Ask::Ping(_) | Ask::Sign(..) | Ask::GiveBack(..) => Answer::Done(Err(error())),
            Ask::Look(..) => Answer::Sights(Err(error())),
            Ask::Join(..) => Answer::Joined(Err(error())),
            Ask::Follow(..) => Answer::Read(Err(error())),
        }
    }

    /// What the server does; `None` where it holds the answer back.
    pub(super) fn carry_out(&self, network: &Network) -> Option<Answer> {
        let recorder = &*network.recorder;
        let late = self.gone.load(Ordering::Relaxed);
        if late && !self.ask.is_of_log() {
            recorder.count(|counts| counts.late += 1);
        }
        Some(match &self.ask {
            Ask::One(target, key, op) => Answer::One(self.apply(network, late, target, key, op)),
            Ask::Many(target, batch) => {
                let apply = |(key, op): &(TierKey, Op)| self.apply(network, late, target, key, op);
                Answer::Many(batch.iter().map(apply).collect())
            }
            Ask::Clear(target) => {
                let cleared = at_once(target.tier.clear());
                if cleared.is_ok() {
                    target.log.append_clear(target, recorder);
                }
                Answer::Done(cleared)
            }
            Ask::Ping(target) => Answer::Done(at_once(target.tier.ping())),
            Ask::Publish(target, publication) => {
                Answer::One(publish(network, self.link, target, publication))
            }
            Ask::Look(desk, leases, listener) => Answer::Sights(Ok(desk.look(leases, listener))),
            Ask::Sign(desk, leases, life) => {
                desk.sign(leases, *life);
                Answer::Done(Ok(()))
            }
            Ask::GiveBack(desk, lease) => {
                desk.give_back(lease, network);
                Answer::Done(Ok(()))
            }
            Ask::End(log) => Answer::Place(Ok(log.end())),
            Ask::Since(log, namespace, place) => Answer::News(Ok(log.since(namespace, place))),
            Ask::Join(log, known) => Answer::Joined(Ok(log.join(known.as_ref(), recorder))),
            Ask::Follow(..) => return None,
        })
    }

    fn apply(&self, network: &Network, late: bool, target: &Target, key: &TierKey, op: &Op) -> Result<Reply> {
        let recorder = &*network.recorder;
        if self.link.fussy && witness::value_in(op).is_some_and(|value| value % 3 == 0) {
            return Err(Error::new(ErrorKind::TooLarge, "a multiple of 3"));
        }
        let reply = at_once(target.tier.apply(key, op.clone()));
        witness::carried_out(recorder, self.link, late, key, op, &reply);
        if let Ok(reply) = &reply {
            target.log.append(target, self.link, key, op, reply, recorder);
        }
        target.desk.announce(&target.space, key, network);
        reply
    }
}

fn publish(network: &Network, link: Link, target: &Target, publication: &Publication) -> Result<Reply> {
    let none = || Error::new(ErrorKind::Unsupported, "the server keeps no marks");
    let tier = target.tier.publish().ok_or_else(none)?;
    let reply = at_once(tier.publish(publication.clone()));
    if let Ok(Reply::Kept(version)) = &reply {
        target.log.append_step(target, link, publication, *version, &network.recorder);
        for dropped in &publication.drops {
            target.desk.announce(&target.space, &dropped.key, network);
        }
    }
    reply
}

/// What a server of this process answers: it never waits.
fn at_once<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    call.now_or_never().unwrap_or_else(|| Err(Error::new(ErrorKind::Timeout, "the server hangs")))
}

/// Tells the call when its caller goes away.
struct Waiting(Arc<Call>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Relaxed);
    }
}

//! Writes of many callers at once, which a tier may send together: each is decided alone and answered alone.

use std::{collections::HashSet, sync::Arc};

use bytes::Bytes;
use futures_util::future::join_all;
use terrace_tier::{
    Condition, Deadlines, Error, ErrorKind, Fence, Op, Order, Reply, Role, Tier, TierKey, Token, Version,
};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, kept, wrong},
    ensure, ensure_eq,
};

/// More than any tier sends one by one.
const CALLERS: usize = 120;

/// Starts a task for each write. They go to `tiers` in turns.
fn start(tiers: &[Arc<dyn Tier>], writes: Vec<(TierKey, Op)>) -> Vec<tokio::task::JoinHandle<Answer>> {
    let spawn = |(number, (key, op)): (usize, (TierKey, Op))| {
        let tier = Arc::clone(&tiers[number % tiers.len()]);
        tokio::spawn(async move { tier.apply(&key, op).await })
    };
    writes.into_iter().enumerate().map(spawn).collect()
}

type Answer = Result<Reply, Error>;

/// The answers to writes that are made at once, in their order.
async fn at_once(tiers: &[Arc<dyn Tier>], writes: Vec<(TierKey, Op)>) -> Result<Vec<Answer>, Failure> {
    let ended = join_all(start(tiers, writes)).await.into_iter();
    let answer = |panic: tokio::task::JoinError| Failure::Broken {
        at: "a caller".to_owned(),
        what: format!("{panic}"),
    };
    ended.map(|answer_of| answer_of.map_err(answer)).collect()
}

/// The replies to writes that are made at once through one handle. No call may fail.
async fn replies(bench: &Bench, writes: Vec<(TierKey, Op)>) -> Result<Vec<Reply>, Failure> {
    let answers = at_once(std::slice::from_ref(&bench.tier), writes).await?;
    Ok(answers.into_iter().collect::<Result<_, _>>()?)
}

fn body(number: usize) -> Bytes {
    Bytes::from(format!("caller {number}"))
}

fn put(number: usize, condition: Condition, deadlines: Deadlines) -> Op {
    let order = Order::Author(condition);
    Op::Put { order, deadlines, body: Some(body(number)), tombstone_ttl: LONG }
}

impl Bench {
    /// A key for each caller, in another order than that of the keys.
    fn key_of(&self, number: usize) -> TierKey {
        self.key(format!("key {}", number * 7 % CALLERS))
    }

    /// Puts a first value for each caller, and gives their versions.
    async fn first_values(&self) -> Result<Vec<Version>, Failure> {
        let mut versions = Vec::with_capacity(CALLERS);
        for number in 0..CALLERS {
            versions.push(self.put(&self.key_of(number), "first").await?);
        }
        Ok(versions)
    }
}

pub(crate) async fn each_of_many_callers_gets_the_answer_to_its_own_write(bench: &Bench) -> Outcome {
    let deadlines = bench.long();
    let other = Deadlines::forever(bench.now());
    let mut writes = Vec::with_capacity(CALLERS);
    for number in 0..CALLERS {
        let key = bench.key_of(number);
        let op = match number % 6 {
            0 => put(number, Condition::Always, deadlines),
            1 => put(number, Condition::Absent, deadlines),
            2 => {
                let fence = bench.lease(&key).await?;
                Op::Fill { fence, version: fence.version, deadlines, body: Some(body(number)) }
            }
            3 => Op::Remove { tombstone_ttl: LONG },
            4 => Op::Expire { deadlines: other },
            _ if bench.role() == Role::Cache => Op::Invalidate { version: None, tombstone_ttl: LONG },
            _ => Op::Remove { tombstone_ttl: LONG },
        };
        if number % 6 > 2 {
            bench.put(&key, "first").await?;
        }
        writes.push((key, op));
    }
    let replies = replies(bench, writes).await?;
    for (number, reply) in replies.iter().enumerate() {
        let key = bench.key_of(number);
        if number % 6 < 3 {
            let version = kept(reply)?;
            let hit = bench.hit(&key).await?;
            ensure_eq!(hit.version, version, "caller {number} must get the version of its own write");
            ensure_eq!(hit.body, Some(body(number)), "the value of caller {number} must be there");
            continue;
        }
        let Reply::Done { existed: true, .. } = reply else {
            return wrong("there was a value to remove, to invalidate, or to give other deadlines", reply);
        };
        match number % 6 {
            4 => ensure_eq!(bench.hit(&key).await?.deadlines, other, "caller {number} changed the deadlines"),
            _ => bench.misses(&key).await?,
        }
    }
    Ok(())
}

pub(crate) async fn refused_writes_among_many_are_refused_alone(bench: &Bench) -> Outcome {
    let versions = bench.first_values().await?;
    let deadlines = bench.long();
    let write = |number: usize| {
        let version = versions[number];
        let op = match number % 4 {
            0 => put(number, Condition::Version(version), deadlines),
            1 => put(number, Condition::Version(version.next(0)), deadlines),
            2 => put(number, Condition::Absent, deadlines),
            _ => {
                // A fence from before the value.
                let fence = Fence { token: Token::random(), version: Version::NONE };
                Op::Fill { fence, version, deadlines, body: Some(body(number)) }
            }
        };
        (bench.key_of(number), op)
    };
    let replies = replies(bench, (0..CALLERS).map(write).collect()).await?;
    for (number, reply) in replies.iter().enumerate() {
        let hit = bench.hit(&bench.key_of(number)).await?;
        if number.is_multiple_of(4) {
            ensure_eq!(hit.version, kept(reply)?, "write {number} must be kept beside refused ones");
            ensure_eq!(hit.body, Some(body(number)), "write {number} must be kept beside refused ones");
            continue;
        }
        let Reply::Refused(winner) = reply else { return wrong("the write must be refused", reply) };
        ensure_eq!(hit.version, versions[number], "the refused write {number} must change nothing");
        if bench.role() == Role::Store {
            let version = winner.as_ref().map(|winner| winner.version);
            ensure_eq!(version, Some(versions[number]), "a store must return the winner of write {number}");
        }
    }
    Ok(())
}

pub(crate) async fn an_oversized_write_among_many_fails_alone(bench: &Bench) -> Outcome {
    const LARGE: usize = CALLERS / 2;
    let (deadlines, large) = (bench.long(), Bytes::from(vec![b'x'; 64 << 20]));
    let write = |number: usize| {
        let body = if number == LARGE { large.clone() } else { body(number) };
        let order = Order::Author(Condition::Always);
        (bench.key_of(number), Op::Put { order, deadlines, body: Some(body), tombstone_ttl: LONG })
    };
    let answers = at_once(std::slice::from_ref(&bench.tier), (0..CALLERS).map(write).collect()).await?;
    for (number, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(reply) => {
                let (version, hit) = (kept(&reply)?, bench.hit(&bench.key_of(number)).await?);
                ensure_eq!(hit.version, version, "the value of caller {number} must be there");
                let own = if number == LARGE { large.clone() } else { body(number) };
                ensure!(hit.body == Some(own), "the value of caller {number} must come back");
            }
            Err(error) if error.kind() == ErrorKind::TooLarge => {
                ensure_eq!(number, LARGE, "only the large write may be too large");
                bench.misses(&bench.key_of(number)).await?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

pub(crate) async fn writes_of_one_key_by_many_callers_have_one_order(bench: &Bench) -> Outcome {
    const KEYS: usize = 3;
    let tiers = [bench.tier.clone(), bench.through_second_handle()?.tier];
    let deadlines = bench.long();
    for round in 0..4 {
        let key = |number: usize| bench.key(format!("round {round} key {}", number % KEYS));
        let write = |number: usize| match number % 8 {
            7 => (key(number), Op::Remove { tombstone_ttl: LONG }),
            _ => (key(number), put(number, Condition::Always, deadlines)),
        };
        let answers = at_once(&tiers, (0..CALLERS).map(write).collect()).await?;
        let mut last = [(Version::NONE, None); KEYS];
        let mut issued = HashSet::new();
        for (number, answer) in answers.into_iter().enumerate() {
            let version = match answer {
                Ok(Reply::Kept(version) | Reply::Done { version, .. }) => version,
                Ok(reply) => return wrong("an unconditional write must be done", &reply),
                // Such a call did nothing.
                Err(error) if error.kind() == ErrorKind::Busy => continue,
                Err(error) => return Err(error.into()),
            };
            let first = issued.insert((number % KEYS, version));
            ensure!(first, "no two writes of a key may have one version\n  found    {version} twice");
            if version > last[number % KEYS].0 {
                last[number % KEYS] = (version, Some(number));
            }
        }
        for (at, (version, number)) in last.into_iter().enumerate() {
            match number {
                Some(number) if number % 8 != 7 => {
                    let hit = bench.hit(&key(at)).await?;
                    ensure_eq!(hit.version, version, "the write with the highest version must be the last");
                    ensure_eq!(hit.body, Some(body(number)), "the value must be that of the last write");
                }
                _ => bench.misses(&key(at)).await?,
            }
        }
    }
    Ok(())
}

pub(crate) async fn of_many_callers_who_create_a_value_one_wins(bench: &Bench) -> Outcome {
    const KEYS: usize = 6;
    let deadlines = bench.long();
    let key = |number: usize| bench.key(format!("key {}", number % KEYS));
    let write = |number: usize| (key(number), put(number, Condition::Absent, deadlines));
    let answers = at_once(std::slice::from_ref(&bench.tier), (0..CALLERS).map(write).collect()).await?;
    let mut winners = [None; KEYS];
    for (number, answer) in answers.iter().enumerate() {
        match answer {
            Ok(Reply::Kept(_)) => {
                let winner = &mut winners[number % KEYS];
                ensure_eq!(*winner, None, "one creator of a key must win, and not caller {number} too");
                *winner = Some(number);
            }
            // The put of a caller with another error may have won.
            Err(error) if error.kind() != ErrorKind::Busy => return Err(error.clone().into()),
            _ => {}
        }
    }
    for (number, answer) in answers.into_iter().enumerate() {
        let winner = winners[number % KEYS].map(body);
        ensure_eq!(bench.hit(&key(number)).await?.body, winner, "the value must be that of the winner");
        match answer {
            Ok(Reply::Refused(found)) if bench.role() == Role::Store => {
                ensure_eq!(found.and_then(|found| found.body), winner, "a store must return the winner");
            }
            Ok(Reply::Kept(_) | Reply::Refused(_)) | Err(_) => {}
            Ok(reply) => return wrong("a put must be kept or refused", &reply),
        }
    }
    Ok(())
}

pub(crate) async fn callers_that_leave_cut_no_write_in_two(bench: &Bench) -> Outcome {
    let deadlines = bench.long();
    let write = |number: usize| (bench.key_of(number), put(number, Condition::Always, deadlines));
    let tasks = start(std::slice::from_ref(&bench.tier), (0..CALLERS).map(write).collect());
    tokio::task::yield_now().await;
    tasks.iter().step_by(3).for_each(tokio::task::JoinHandle::abort);
    for (number, task) in tasks.into_iter().enumerate() {
        match task.await {
            Ok(answer) => drop(kept(&answer?)?),
            Err(_) if number % 3 == 0 => match bench.get(&bench.key_of(number)).await? {
                Reply::Hit(hit) => ensure_eq!(hit.body, Some(body(number)), "the whole value must be there"),
                reply => ensure!(matches!(reply, Reply::Miss(_)), "a read must hit or miss: {reply:?}"),
            },
            Err(panic) => return Err(Failure::Broken { at: "a caller".to_owned(), what: panic.to_string() }),
        }
    }
    Ok(())
}

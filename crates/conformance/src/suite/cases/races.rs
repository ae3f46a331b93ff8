//! Many tasks at once: one task wins, no write is lost, and no answer goes to another task.

use std::collections::HashSet;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, future::join_all, stream};
use terrace_tier::{Condition, ErrorKind, Op, Order, Reply, TierKey, Token, Version};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, bytes, kept, lease_op},
    ensure, ensure_eq,
};

const RACERS: usize = 64;

impl Bench {
    /// Runs the operation in many tasks at once, through both handles, and returns the replies. It leaves
    /// out `Busy` errors, because such a call did nothing.
    async fn race(&self, key: &TierKey, op: impl Fn(usize) -> Op) -> Result<Vec<Reply>, Failure> {
        let second = self.through_second_handle()?;
        let racers = (0..RACERS).map(|number| {
            let tier = if number % 2 == 0 { self.tier.clone() } else { second.tier.clone() };
            let (key, op) = (key.clone(), op(number));
            tokio::spawn(async move { tier.apply(&key, op).await })
        });
        let mut replies = Vec::new();
        for ended in join_all(racers.collect::<Vec<_>>()).await {
            match ended {
                Ok(Ok(reply)) => replies.push(reply),
                Ok(Err(error)) if error.kind() == ErrorKind::Busy => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(panic) => {
                    let what = format!("the tier panicked: {panic}");
                    return Err(Failure::Broken { at: "a race".to_owned(), what });
                }
            }
        }
        ensure!(!replies.is_empty(), "at least one task must get a reply");
        Ok(replies)
    }
}

fn racer(number: usize) -> Option<Bytes> {
    Some(Bytes::from(format!("racer {number}")))
}

fn winners(replies: &[Reply]) -> usize {
    replies.iter().filter(|reply| matches!(reply, Reply::Kept(_))).count()
}

pub(crate) async fn of_racing_fills_one_wins(bench: &Bench) -> Outcome {
    for round in 0..4u8 {
        let key = bench.key([round]);
        let fence = bench.lease(&key).await?;
        let deadlines = bench.long();
        let fill = |number| Op::Fill { fence, version: fence.version, deadlines, body: racer(number) };
        let replies = bench.race(&key, fill).await?;
        ensure_eq!(winners(&replies), 1, "one of the racing fills must be kept");
        bench.hit(&key).await?;
    }
    Ok(())
}

pub(crate) async fn of_racing_creators_one_wins(bench: &Bench) -> Outcome {
    for round in 0..4u8 {
        let key = bench.key([round]);
        let deadlines = bench.long();
        let order = Order::Author(Condition::Absent);
        let put = |number| Op::Put { order, deadlines, body: racer(number), tombstone_ttl: LONG };
        ensure_eq!(winners(&bench.race(&key, put).await?), 1, "one of the racing creators must win");
    }
    Ok(())
}

pub(crate) async fn of_racing_leases_all_get_one_token(bench: &Bench) -> Outcome {
    for round in 0..4u8 {
        race_for_a_lease(bench, &bench.key([round]), Token::NONE).await?;
    }
    Ok(())
}

pub(crate) async fn of_racing_leases_that_replace_one_all_get_one_token(bench: &Bench) -> Outcome {
    for round in 0..4u8 {
        let key = bench.key([round]);
        let old = bench.lease(&key).await?;
        let token = race_for_a_lease(bench, &key, old.token).await?;
        ensure!(token != old.token, "one of the racing leases must replace the old one");
    }
    Ok(())
}

async fn race_for_a_lease(bench: &Bench, key: &TierKey, replaces: Token) -> Result<Token, Failure> {
    let replies = bench.race(key, |_| lease_op(None, replaces)).await?;
    let token = |reply: &Reply| match reply {
        Reply::Miss(fence) => fence.token,
        _ => Token::NONE,
    };
    let tokens: HashSet<Token> = replies.iter().map(token).collect();
    ensure_eq!(tokens.len(), 1, "racing readers must share one lease");
    ensure!(!tokens.contains(&Token::NONE), "every racing reader must get a token");
    Ok(tokens.into_iter().next().unwrap_or_default())
}

pub(crate) async fn racing_puts_get_distinct_versions_and_the_newest_stays(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let deadlines = bench.long();
    let order = Order::Author(Condition::Always);
    let put = |number| Op::Put { order, deadlines, body: racer(number), tombstone_ttl: LONG };
    let replies = bench.race(&key, put).await?;
    let versions = replies.iter().map(kept).collect::<Result<Vec<Version>, _>>()?;
    let distinct: HashSet<_> = versions.iter().collect();
    ensure_eq!(distinct.len(), versions.len(), "no two writes may have one version");
    ensure_eq!(Some(bench.hit(&key).await?.version), versions.into_iter().max(), "the newest must stay");
    Ok(())
}

pub(crate) async fn racing_replaces_lose_no_update(bench: &Bench) -> Outcome {
    let key = bench.key("counter");
    kept(&bench.write(&key, Order::Author(Condition::Always), Some(Bytes::from("0")), bench.long()).await?)?;
    let (tasks, rounds) = (8usize, 10usize);
    let count = async || -> Outcome {
        let mut done = 0;
        while done < rounds {
            let seen = bench.hit(&key).await?;
            let number = number_in(seen.body.as_ref()) + 1;
            let order = Order::Author(Condition::Version(seen.version));
            let next = Some(Bytes::from(number.to_string()));
            match bench.write(&key, order, next, bench.long()).await {
                Ok(Reply::Kept(_)) => done += 1,
                Ok(_) => {}
                Err(Failure::Tier(error)) if error.kind() == ErrorKind::Busy => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    };
    for ended in join_all((0..tasks).map(|_| count())).await {
        ended?;
    }
    let total = number_in(bench.hit(&key).await?.body.as_ref());
    ensure_eq!(total, tasks * rounds, "every replace that was kept must count");
    Ok(())
}

fn number_in(body: Option<&Bytes>) -> usize {
    body.and_then(|body| std::str::from_utf8(body).ok()).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) async fn ten_thousand_operations_at_once_get_their_own_answers(bench: &Bench) -> Outcome {
    const KEYS: usize = 100;
    let keys: Vec<_> = (0..KEYS).map(|number| bench.key(format!("key {number}"))).collect();
    let deadlines = bench.long();
    let mut issued = HashSet::new();
    for (number, key) in keys.iter().enumerate() {
        let body = Some(Bytes::from(format!("{number} by the setup")));
        let reply = bench.write(key, Order::Author(Condition::Always), body, deadlines).await?;
        issued.insert((number, kept(&reply)?));
    }
    let op = |number: usize, body: Bytes| match number % 10 {
        0 => Op::Put {
            order: Order::Author(Condition::Always),
            deadlines,
            body: Some(body),
            tombstone_ttl: LONG,
        },
        1 => Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE },
        2 if number % 30 == 2 => Op::Remove { tombstone_ttl: LONG },
        _ => Op::Get,
    };
    let calls: Vec<_> = (0..10_000usize)
        .map(|number| {
            let key = (number * 7 + number / 10) % KEYS;
            let op = op(number, Bytes::from(format!("{key} by {number}")));
            let tier_key = &keys[key];
            async move {
                let issues = matches!(op, Op::Put { .. } | Op::Remove { .. });
                match bench.apply(tier_key, op).await {
                    Ok(reply) => Ok(Some((key, issues, reply))),
                    Err(Failure::Tier(error)) if error.kind() == ErrorKind::Busy => Ok(None),
                    Err(failure) => Err(failure),
                }
            }
        })
        .collect();
    let answers: Vec<_> = stream::iter(calls).buffer_unordered(10_000).try_collect().await?;
    let mut hits = 0;
    for (key, issues, reply) in answers.into_iter().flatten() {
        match reply {
            Reply::Hit(stored) => {
                hits += 1;
                let body = stored.body.unwrap_or_default();
                let own = body.starts_with(format!("{key} by ").as_bytes());
                ensure!(own, "key {key} must have its own value\n  found    {body:?}");
            }
            Reply::Kept(version) | Reply::Done { version, .. } if issues => {
                let first = issued.insert((key, version));
                ensure!(first, "no two writes of key {key} may have one version\n  found    {version}");
            }
            reply => ensure!(
                matches!(reply, Reply::Miss(_)),
                "the answer must fit the operation\n  found    {reply:?}"
            ),
        }
    }
    ensure!(hits > 1000, "most reads must find a value\n  found    {hits} hits");
    Ok(())
}

pub(crate) async fn a_write_during_a_load_is_never_overwritten(bench: &Bench) -> Outcome {
    for round in 0..16u8 {
        let key = bench.key([round]);
        let fence = bench.lease(&key).await?;
        let fill = bench.fill_version(&key, fence, fence.version, "loaded");
        let remove = bench.remove(&key);
        let (filled, removed) = if round % 2 == 0 {
            futures_util::future::join(fill, remove).await
        } else {
            let (removed, filled) = futures_util::future::join(remove, fill).await;
            (filled, removed)
        };
        let (existed, _) = removed?;
        let kept = matches!(filled?, Reply::Kept(_));
        ensure_eq!(existed, kept, "a fill before the remove must be removed, a fill after it refused");
        bench.misses(&key).await?;
    }
    let key = bench.key("put");
    let fence = bench.lease(&key).await?;
    let (filled, put) =
        futures_util::future::join(bench.fill(&key, fence, "old"), bench.put(&key, "new")).await;
    filled?;
    put?;
    ensure_eq!(bench.hit(&key).await?.body, Some(bytes("new")), "the put must stay");
    Ok(())
}

//! A batch does what its operations would do one after the other.

use bytes::Bytes;
use terrace_tier::{
    Condition, Deadlines, ErrorKind, Fence, Op, Order, Reply, Role, Stored, TierKey, Token, Version,
};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, kept, wrong},
    ensure, ensure_eq,
};

/// The number of keys of a large batch.
const MANY: usize = 1000;

impl Bench {
    async fn batch(&self, keys: &[TierKey], op: impl Fn(usize) -> Op) -> Result<Vec<Reply>, Failure> {
        let batch = keys.iter().enumerate().map(|(number, key)| (key.clone(), op(number))).collect();
        let replies = self.tier.apply_many(batch).await;
        ensure_eq!(replies.len(), keys.len(), "a batch must have one answer for each key");
        Ok(replies.into_iter().collect::<Result<_, _>>()?)
    }

    fn many_keys(&self) -> Vec<TierKey> {
        (0..MANY).map(|number| self.key(format!("key {number}"))).collect()
    }
}

fn body(number: usize) -> Bytes {
    Bytes::from(format!("body {number}"))
}

fn put(number: usize, deadlines: Deadlines) -> Op {
    let order = Order::Author(Condition::Always);
    Op::Put { order, deadlines, body: Some(body(number)), tombstone_ttl: LONG }
}

pub(crate) async fn an_empty_batch_is_answered(bench: &Bench) -> Outcome {
    ensure!(bench.tier.apply_many(Vec::new()).await.is_empty(), "a batch without keys must have no answers");
    Ok(())
}

pub(crate) async fn an_operation_that_the_tier_does_not_know_is_unsupported(bench: &Bench) -> Outcome {
    let keys = [bench.key("k"), bench.key("l")];
    let version = bench.put(&keys[0], "there").await?;
    let single = bench.tier.apply(&keys[0], Op::Unknown).await;
    let many = bench.tier.apply_many(keys.iter().map(|key| (key.clone(), Op::Unknown)).collect()).await;
    ensure_eq!(many.len(), keys.len(), "a batch must have one answer for each key");
    for reply in many.into_iter().chain([single]) {
        match reply {
            Err(error) if error.kind() == ErrorKind::Unsupported => {}
            Err(error) => return Err(error.into()),
            Ok(reply) => return wrong("an unknown operation must be refused", &reply),
        }
    }
    let Reply::Hit(stored) = bench.get(&keys[0]).await? else {
        return wrong("the value must still be there", &bench.get(&keys[0]).await?);
    };
    ensure_eq!(stored.version, version, "an unknown operation must change nothing");
    Ok(())
}

pub(crate) async fn a_batch_of_one_is_answered(bench: &Bench) -> Outcome {
    let keys = [bench.key("k")];
    let deadlines = bench.long();
    kept(&bench.batch(&keys, |_| put(7, deadlines)).await?[0])?;
    let Reply::Hit(stored) = &bench.batch(&keys, |_| Op::Get).await?[0] else {
        return wrong("the read must find the value that was put", &bench.get(&keys[0]).await?);
    };
    ensure_eq!(stored.body, Some(body(7)), "the body must come back");
    Ok(())
}

pub(crate) async fn batches_answer_in_order_with_hits_and_misses_mixed(bench: &Bench) -> Outcome {
    let keys = bench.many_keys();
    let deadlines = bench.long();
    let there: Vec<_> = keys.iter().step_by(3).cloned().collect();
    let versions = bench.batch(&there, |number| put(number * 3, deadlines)).await?;
    let replies = bench.batch(&keys, |_| Op::Get).await?;
    for (number, reply) in replies.iter().enumerate() {
        let expected = if number % 3 == 0 {
            let version = kept(&versions[number / 3])?;
            Reply::Hit(Stored::new(version, deadlines, Some(body(number))))
        } else {
            Reply::Miss(Fence::default())
        };
        ensure_eq!(*reply, expected, "answer {number} of {MANY}");
    }
    for number in [0, 1, 333, 999] {
        ensure_eq!(
            bench.get(&keys[number]).await?,
            replies[number],
            "a single read must give the same answer"
        );
    }
    Ok(())
}

pub(crate) async fn a_batch_of_leases_and_fills_is_fenced_key_by_key(bench: &Bench) -> Outcome {
    let keys = bench.many_keys();
    let deadlines = bench.long();
    bench.put(&keys[5], "there").await?;
    let leases = bench
        .batch(&keys, |_| Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE })
        .await?;
    ensure!(matches!(leases[5], Reply::Hit(_)), "key 5 had a value\n  found    {:?}", leases[5]);
    // Two keys change between the leases and the fills.
    bench.remove(&keys[7]).await?;
    bench.put(&keys[9], "newer").await?;
    let fence = |number: usize| match &leases[number] {
        Reply::Miss(fence) => *fence,
        _ => Fence::default(),
    };
    let fill = |number| {
        let fence = fence(number);
        Op::Fill { fence, version: fence.version, deadlines, body: Some(body(number)) }
    };
    let fills = bench.batch(&keys, fill).await?;
    for (number, reply) in fills.iter().enumerate() {
        let lost = [5, 7, 9].contains(&number);
        ensure_eq!(matches!(reply, Reply::Kept(_)), !lost, "fill {number} of {MANY} got {reply:?}");
        if bench.role() == Role::Store && number == 9 {
            ensure!(
                matches!(reply, Reply::Refused(Some(_))),
                "a store must return the winner\n  found    {reply:?}"
            );
        }
    }
    bench.reads(&keys[5], "there").await?;
    bench.misses(&keys[7]).await?;
    bench.reads(&keys[9], "newer").await?;
    ensure_eq!(bench.hit(&keys[998]).await?.body, Some(body(998)), "the filled value must be there");
    Ok(())
}

pub(crate) async fn a_batch_of_conditional_puts_is_decided_key_by_key(bench: &Bench) -> Outcome {
    let keys = bench.many_keys();
    let deadlines = bench.long();
    let first = bench.batch(&keys[..500], |number| put(number, deadlines)).await?;
    let versions = first.iter().map(kept).collect::<Result<Vec<Version>, _>>()?;
    // The conditions take turns: the version of the value, another version, and no value.
    let replace = |number: usize| {
        let version = versions.get(number).copied().unwrap_or(Version::from_u64(9));
        let condition = match number % 3 {
            0 => Condition::Version(version),
            1 => Condition::Version(Version::from_u64(version.as_u64() + 1)),
            _ => Condition::Absent,
        };
        let order = Order::Author(condition);
        Op::Put { order, deadlines, body: Some(body(number + MANY)), tombstone_ttl: LONG }
    };
    let replies = bench.batch(&keys, replace).await?;
    for (number, reply) in replies.iter().enumerate() {
        let expected = if number < 500 { number % 3 == 0 } else { number % 3 == 2 };
        ensure_eq!(matches!(reply, Reply::Kept(_)), expected, "put {number} of {MANY} got {reply:?}");
    }
    ensure_eq!(bench.hit(&keys[1]).await?.body, Some(body(1)), "a refused put must leave the first value");
    ensure_eq!(
        bench.hit(&keys[3]).await?.body,
        Some(body(3 + MANY)),
        "a put whose condition holds must replace the value"
    );
    Ok(())
}

pub(crate) async fn a_batch_of_removes_tells_what_was_there(bench: &Bench) -> Outcome {
    let keys = bench.many_keys();
    let deadlines = bench.long();
    bench.batch(&keys[..10], |number| put(number, deadlines)).await?;
    let expires =
        bench.batch(&keys[..20], |_| Op::Expire { deadlines: Deadlines::forever(bench.now()) }).await?;
    let removes = bench.batch(&keys, |_| Op::Remove { tombstone_ttl: LONG }).await?;
    for (number, reply) in removes.iter().enumerate() {
        let Reply::Done { existed, version } = reply else {
            return wrong("a remove must be done", reply);
        };
        ensure_eq!(*existed, number < 10, "remove {number} of {MANY}");
        ensure!(*version > Version::NONE, "a remove issues a version");
        if let Some(Reply::Done { existed, .. }) = expires.get(number) {
            ensure_eq!(*existed, number < 10, "expire {number}");
        }
    }
    let gone = bench.batch(&keys, |_| Op::Get).await?;
    ensure!(
        gone.iter().all(|reply| matches!(reply, Reply::Miss(_))),
        "no value may be left after the removes"
    );
    Ok(())
}

pub(crate) async fn a_batch_of_invalidations_and_follow_puts_is_decided_key_by_key(bench: &Bench) -> Outcome {
    let keys = bench.many_keys();
    let deadlines = bench.long();
    let versions = bench.batch(&keys[..100], |number| put(number, deadlines)).await?;
    let versions = versions.iter().map(kept).collect::<Result<Vec<Version>, _>>()?;
    let version = |number: usize| versions.get(number).copied().unwrap_or(Version::from_u64(5));
    let follow = |number: usize| {
        let newer = number.is_multiple_of(2);
        let order = Order::Follow(if newer { version(number).next(0) } else { version(number) });
        Op::Put { order, deadlines, body: Some(body(number + MANY)), tombstone_ttl: LONG }
    };
    for (number, reply) in bench.batch(&keys, follow).await?.iter().enumerate() {
        let expected = number < 100 && number % 2 == 0;
        ensure_eq!(matches!(reply, Reply::Kept(_)), expected, "follow put {number} got {reply:?}");
    }
    let invalidate =
        |number: usize| Op::Invalidate { version: Some(version(number).next(0)), tombstone_ttl: LONG };
    for (number, reply) in bench.batch(&keys, invalidate).await?.iter().enumerate() {
        // The even keys have the version of the invalidation, the odd keys an older one.
        let expected = number < 100 && number % 2 == 1;
        let existed = matches!(reply, Reply::Done { existed: true, .. });
        ensure_eq!(existed, expected, "invalidation {number} got {reply:?}");
    }
    for (number, reply) in bench.batch(&keys, |_| Op::Get).await?.iter().enumerate() {
        let expected = number < 100 && number % 2 == 0;
        ensure_eq!(matches!(reply, Reply::Hit(_)), expected, "afterwards, key {number} gave {reply:?}");
    }
    Ok(())
}

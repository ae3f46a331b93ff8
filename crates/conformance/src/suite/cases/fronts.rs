//! The store's part of write-behind: terms, and writes that a front has ordered.

use std::time::Duration;

use terrace_tier::{
    Change, Epoch, ErrorKind, FrontClaim, FrontStore, FrontTerm, Moment, Op, Order, Reply, Role, Term,
    Version, transition,
};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, bytes, kept},
    ensure, ensure_eq,
};

const HOLD: Duration = Duration::from_secs(600);

fn store(bench: &Bench) -> Result<&dyn FrontStore, Failure> {
    let Some(store) = bench.tier.front_store() else {
        return Err(Failure::Broken {
            at: file!().to_owned(),
            what: "the store has no `front_store`".to_owned(),
        });
    };
    Ok(store)
}

fn claim() -> FrontClaim {
    let (id, nonce) = (fastrand::u64(1..), fastrand::u64(1..));
    FrontClaim { id, nonce, known: Vec::new(), is_resumed: false, hold: Some(HOLD), takes_over: false }
}

async fn opened(bench: &Bench) -> Result<FrontTerm, Failure> {
    Ok(store(bench)?.open_front(&claim()).await?)
}

fn behind(bench: &Bench, term: Term, version: Version, body: Option<&'static str>) -> Op {
    let order = Order::Behind { version, term };
    Op::Put { order, deadlines: bench.long(), body: body.map(bytes), tombstone_ttl: LONG }
}

/// A version of the present, as a front issues it.
fn issued(bench: &Bench, front: FrontTerm) -> Version {
    front.high.next(bench.now().as_millis() * 1000)
}

async fn refused(bench: &Bench, op: Op, with: ErrorKind) -> Outcome {
    let found = bench.tier.apply(&bench.key("k"), op).await;
    let is_refused = found.as_ref().is_err_and(|error| error.kind() == with);
    ensure!(is_refused, "a write must be refused with {with:?}\n  found    {found:?}");
    Ok(())
}

pub(crate) async fn a_write_behind_replaces_only_what_is_older(bench: &Bench) -> Outcome {
    let (front, key) = (opened(bench).await?, bench.key("k"));
    let first = issued(bench, front);
    let (second, third) = (first.next(0), first.next(0).next(0));
    let write = |version, body| bench.apply(&key, behind(bench, front.term, version, Some(body)));
    ensure_eq!(write(second, "second").await?, Reply::Kept(second), "the version is the front's");
    ensure_eq!(write(second, "again").await?, Reply::Kept(second), "an equal version counts as done");
    bench.reads(&key, "second").await?;
    let there = bench.hit(&key).await?;
    ensure_eq!(write(first, "first").await?, Reply::Refused(Some(there)), "a newer record must stay");
    ensure_eq!(write(third, "third").await?, Reply::Kept(third), "a newer write must be kept");
    ensure_eq!(bench.hit(&key).await?.version, third, "the version is the front's");
    bench.reads(&key, "third").await
}

pub(crate) async fn a_removal_behind_leaves_a_tombstone(bench: &Bench) -> Outcome {
    let (front, key) = (opened(bench).await?, bench.key("k"));
    let first = issued(bench, front);
    let second = first.next(0);
    ensure_eq!(
        bench.apply(&key, behind(bench, front.term, second, None)).await?,
        Reply::Kept(second),
        "a removal of an absent key must be kept"
    );
    bench.misses(&key).await?;
    let late = bench.apply(&key, behind(bench, front.term, first, Some("late"))).await?;
    ensure_eq!(late, Reply::Refused(None), "a write before the removal must not come back");
    bench.misses(&key).await?;
    kept(&bench.apply(&key, behind(bench, front.term, second.next(0), Some("new"))).await?)?;
    bench.reads(&key, "new").await
}

pub(crate) async fn a_write_behind_that_is_too_old_needs_a_record(bench: &Bench) -> Outcome {
    let (front, key) = (opened(bench).await?, bench.key("k"));
    let old = Version::from_u64((bench.now().as_millis() * 1000).saturating_sub(LONG.as_micros() as u64));
    let reply = bench.apply(&key, behind(bench, front.term, old, Some("old"))).await?;
    ensure_eq!(reply, Reply::TooOld, "a tombstone of a later removal may be gone");
    bench.misses(&key).await
}

pub(crate) async fn a_batch_behind_is_decided_key_by_key(bench: &Bench) -> Outcome {
    let front = opened(bench).await?;
    let version = issued(bench, front);
    let newer = version.next(0);
    kept(&bench.apply(&bench.key("newer"), behind(bench, front.term, newer, Some("newer"))).await?)?;
    let old = Version::from_u64(1);
    let batch = vec![
        (bench.key("newer"), behind(bench, front.term, version, Some("late"))),
        (bench.key("put"), behind(bench, front.term, version, Some("put"))),
        (bench.key("removed"), behind(bench, front.term, version, None)),
        (bench.key("old"), behind(bench, front.term, old, Some("old"))),
    ];
    let replies = bench.tier.apply_many(batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
    let there = bench.hit(&bench.key("newer")).await?;
    let expected =
        vec![Reply::Refused(Some(there)), Reply::Kept(version), Reply::Kept(version), Reply::TooOld];
    ensure_eq!(replies, expected, "each key has its own answer, in order");
    bench.reads(&bench.key("put"), "put").await
}

pub(crate) async fn another_term_is_refused(bench: &Bench) -> Outcome {
    let first = opened(bench).await?;
    store(bench)?.release_front(first.term).await?;
    let second = opened(bench).await?;
    ensure!(second.term > first.term, "each opening has a higher term");
    let version = issued(bench, second);
    for term in [first.term, Term::NONE, second.term.next()] {
        refused(bench, behind(bench, term, version, Some("stray")), ErrorKind::FrontLost).await?;
        let held = store(bench)?.hold_front(term, HOLD).await;
        ensure!(held.is_err_and(|error| error.kind() == ErrorKind::FrontLost), "no hold for term {term}");
    }
    bench.misses(&bench.key("k")).await
}

pub(crate) async fn a_held_namespace_takes_no_second_front_and_no_direct_write(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "before").await?;
    let seen = bench.hit(&key).await?.version;
    let front = opened(bench).await?;
    ensure!(front.high >= seen, "the versions of a front begin above the store's");
    let second = store(bench)?.open_front(&claim()).await;
    ensure!(
        second.as_ref().is_err_and(|error| error.kind() == ErrorKind::NamespaceInUse),
        "a second front\n  found    {second:?}"
    );
    let (deadlines, body, tombstone_ttl) = (bench.long(), Some(bytes("direct")), LONG);
    let put =
        |condition| Op::Put { order: Order::Author(condition), deadlines, body: body.clone(), tombstone_ttl };
    use terrace_tier::{Condition, Fence, Token};
    let fence = Fence { token: Token::NONE, version: Version::NONE };
    let direct = [
        put(Condition::Always),
        put(Condition::Absent),
        put(Condition::Version(seen)),
        Op::Fill { fence, version: Version::NONE, deadlines, body: body.clone() },
        Op::Remove { tombstone_ttl },
        Op::Expire { deadlines },
    ];
    for op in direct {
        refused(bench, op, ErrorKind::NamespaceInUse).await?;
    }
    bench.reads(&key, "before").await?;
    store(bench)?.release_front(front.term).await?;
    bench.put(&key, "after").await?;
    bench.reads(&key, "after").await
}

pub(crate) async fn a_take_over_needs_no_release_and_fences_the_front(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let first = opened(bench).await?;
    let version = issued(bench, first);
    kept(&bench.apply(&key, behind(bench, first.term, version, Some("first"))).await?)?;
    let second = store(bench)?.open_front(&FrontClaim { takes_over: true, ..claim() }).await?;
    ensure!(second.high >= version, "the new front's versions begin above the old one's");
    refused(bench, behind(bench, first.term, version.next(0), Some("late")), ErrorKind::FrontLost).await?;
    bench.reads(&key, "first").await
}

pub(crate) async fn a_clone_of_a_front_is_fenced(bench: &Bench) -> Outcome {
    let first = FrontClaim { hold: None, ..claim() };
    store(bench)?.open_front(&first).await?;
    let again =
        |nonce, known: &[u64]| FrontClaim { nonce, known: known.to_vec(), is_resumed: true, ..first.clone() };
    store(bench)?.open_front(&again(11, &[first.nonce])).await?;
    let clone = store(bench)?.open_front(&again(12, &[first.nonce])).await;
    ensure!(
        clone.as_ref().is_err_and(|error| error.kind() == ErrorKind::FrontLost),
        "a clone of the front\n  found    {clone:?}"
    );
    store(bench)?.open_front(&again(13, &[first.nonce, 11])).await?;
    Ok(())
}

pub(crate) async fn a_direct_write_after_the_hold_ends_the_term(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let short = FrontClaim { hold: Some(Duration::ZERO), ..claim() };
    let front = store(bench)?.open_front(&short).await?;
    let version = issued(bench, front);
    kept(&bench.apply(&key, behind(bench, front.term, version, Some("behind"))).await?)?;
    store(bench)?.hold_front(front.term, Duration::ZERO).await?;
    bench.put(&key, "direct").await?;
    let held = store(bench)?.hold_front(front.term, HOLD).await;
    ensure!(
        held.is_err_and(|error| error.kind() == ErrorKind::FrontLost),
        "the front must know of the write"
    );
    refused(bench, behind(bench, front.term, version.next(0), Some("late")), ErrorKind::FrontLost).await?;
    bench.reads(&key, "direct").await
}

/// Random writes of few keys against the transition, with versions that repeat and go back.
pub(crate) async fn random_writes_behind_agree_with_the_transition(bench: &Bench) -> Outcome {
    let front = opened(bench).await?;
    let (base, mut random) = (issued(bench, front), fastrand::Rng::with_seed(7));
    let mut cells = vec![None; 5];
    for round in 0..60 {
        let mut keys: Vec<usize> = (0..cells.len()).collect();
        random.shuffle(&mut keys);
        keys.truncate(random.usize(1..=cells.len()));
        let mut batch = Vec::new();
        let mut expected = Vec::new();
        for key in keys {
            let old = random.u8(..8) == 0;
            let version = match old {
                true => Version::from_u64(random.u64(1..4)),
                false => Version::from_u64(base.as_u64() + random.u64(..40)),
            };
            let op = behind(bench, front.term, version, (random.u8(..4) > 0).then_some("value"));
            let moment =
                Moment::new(Role::Store, bench.now(), bench.now().as_millis() * 1000, Epoch::default());
            let (change, reply) = transition(cells[key].as_ref(), &op, &moment);
            if let Change::Write(cell) = change {
                cells[key] = Some(cell);
            }
            batch.push((bench.key([key as u8]), op));
            expected.push(reply);
        }
        let replies = bench.tier.apply_many(batch).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        ensure_eq!(replies, expected, "round {round}");
    }
    Ok(())
}

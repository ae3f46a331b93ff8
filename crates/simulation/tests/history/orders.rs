//! The checker of linearizability agrees with a brute force that tries all orders.

use terrace_simulation::history::{End, Read, Value, Wish, Write};

use super::{
    linear::{is_linear, slow_read},
    write,
};

type Op = (u64, u64, Result<Value, Wish>, Option<bool>);

fn apply(now: Value, op: &Op) -> Option<Value> {
    let (holds, then) = match op.2 {
        Ok(value) => return (value == now).then_some(now),
        Err(Wish::Put(value)) => (true, Some(value)),
        Err(Wish::PutIfAbsent(value) | Wish::Create(value)) => (now.is_none(), Some(value)),
        Err(Wish::Replace(seen, value)) => (now == Some(seen), Some(value)),
        Err(Wish::Remove | Wish::Invalidate) => (true, None),
    };
    op.3.is_none_or(|held| held == holds).then_some(if holds { then } else { now })
}

fn explains(now: Value, left: &[Op]) -> bool {
    let first_return = left.iter().map(|op| op.1).min().unwrap_or(u64::MAX);
    if left.iter().all(|op| op.1 == u64::MAX) {
        return true;
    }
    (0..left.len()).any(|at| {
        let rest: Vec<Op> = left.iter().enumerate().filter(|(n, _)| *n != at).map(|(_, op)| *op).collect();
        left[at].0 <= first_return && apply(now, &left[at]).is_some_and(|then| explains(then, &rest))
    })
}

fn random(rng: &mut fastrand::Rng) -> (Vec<Read>, Vec<Write>, Vec<Op>) {
    let (mut reads, mut writes, mut ops) = (vec![], vec![], vec![]);
    for number in 0..rng.u64(2..=6) {
        let call = rng.u64(..40);
        let ret = call + 1 + rng.u64(..20);
        let value = rng.u64(..6);
        if rng.bool() {
            let value = (value > 0).then_some(value);
            reads.push(slow_read(call, ret, value));
            ops.push((call, ret, Ok(value), None));
            continue;
        }
        let wish = match rng.u8(..5) {
            0 => Wish::Remove,
            1 => Wish::PutIfAbsent(number + 1),
            2 => Wish::Replace(value, number + 1),
            _ => Wish::Put(number + 1),
        };
        let end = match rng.u8(..4) {
            0 => End::Unknown,
            1 if matches!(wish, Wish::PutIfAbsent(_) | Wish::Replace(..)) => End::Refused,
            _ => End::Done,
        };
        writes.push(write(call, ret, wish, end));
        let ends = if end == End::Unknown { u64::MAX } else { ret };
        ops.push((call, ends, Err(wish), (end != End::Unknown).then_some(end == End::Done)));
    }
    (reads, writes, ops)
}

#[test]
fn linear_agrees_with_trying_every_order() {
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut yes, mut no) = (0, 0);
    for case in 0..20_000 {
        let (reads, writes, ops) = random(&mut rng);
        let expected = explains(None, &ops);
        assert_eq!(is_linear(&reads, &writes), expected, "case {case}: {ops:?}");
        *(if expected { &mut yes } else { &mut no }) += 1;
    }
    assert!(yes > 1_000 && no > 1_000, "{yes} and {no}: both kinds must be met");
}

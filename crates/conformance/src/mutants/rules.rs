//! Tiers that break a rule of the transition.

use super::*;

/// Makes one test for each mutant from the list of the case, the case, and the broken rule.
macro_rules! rules {
    ($($name:ident: $cases:ident $case:ident => $rule:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            rule_caught($cases, stringify!($case), $rule).await;
        })*
    };
}

fn whole_seconds(deadlines: Deadlines) -> Deadlines {
    let cut = |at: Timestamp| match at {
        Timestamp::NEVER => at,
        at => Timestamp::from_millis(at.as_millis() / 1000 * 1000),
    };
    Deadlines {
        written: cut(deadlines.written),
        fresh_until: cut(deadlines.fresh_until),
        stale_until: cut(deadlines.stale_until),
        expires_at: cut(deadlines.expires_at),
    }
}

rules! {
    accepts_a_fill_on_absence: CACHE absence_rejects_a_fill => |cell, op, moment| match (cell, op) {
        (None, Op::Fill { fence, .. }) => {
            let lease = Op::Lease { token: fence.token, ttl: std::time::Duration::from_secs(9), over: None, replaces: Token::NONE };
            let (change, _) = transition(None, &lease, moment);
            let Change::Write(lease) = change else { return transition(None, op, moment) };
            transition(Some(&lease), op, moment)
        }
        _ => transition(cell, op, moment),
    };
    ignores_the_token: CACHE a_fill_over_another_token_is_refused => |cell, op, moment| match op {
        Op::Fill { fence, version, deadlines, body } => {
            let token = cell.map_or(fence.token, |cell| cell.token);
            let fence = Fence { token, ..*fence };
            transition(cell, &Op::Fill { fence, version: *version, deadlines: *deadlines, body: body.clone() }, moment)
        }
        _ => transition(cell, op, moment),
    };
    takes_no_token_for_a_token: CACHE a_fill_without_a_token_is_refused => |cell, op, moment| match op {
        Op::Fill { fence, version, .. }
            if fence.token == Token::NONE && cell.is_some_and(|c| c.token == Token::NONE && c.version <= *version) =>
        {
            let with_token = edited(cell, |cell| cell.token = Token::from_u64(1));
            let Op::Fill { version, deadlines, body, .. } = op.clone() else { return transition(cell, op, moment) };
            let fence = Fence { token: Token::from_u64(1), version };
            transition(with_token.as_ref(), &Op::Fill { fence, version, deadlines, body }, moment)
        }
        _ => transition(cell, op, moment),
    };
    gives_each_reader_a_lease_of_its_own: CACHE readers_share_a_living_lease_and_the_first_fill_wins => |cell, op, moment| {
        match op {
            Op::Lease { .. } => transition(edited(cell, |cell| cell.token = Token::NONE).as_ref(), op, moment),
            _ => transition(cell, op, moment),
        }
    };
    replaces_no_lease: CACHE a_lease_that_names_the_living_token_replaces_it => |cell, op, moment| match op {
        Op::Lease { token, ttl, over, .. } => {
            let lease = Op::Lease { token: *token, ttl: *ttl, over: *over, replaces: Token::NONE };
            transition(cell, &lease, moment)
        }
        _ => transition(cell, op, moment),
    };
    replaces_any_lease_in_the_place_of_one: CACHE a_lease_that_names_another_token_shares_the_living_one => |cell, op, moment| match op {
        Op::Lease { token, ttl, over, replaces } if *replaces != Token::NONE => {
            let replaces = cell.map_or(Token::NONE, |cell| cell.token);
            transition(cell, &Op::Lease { token: *token, ttl: *ttl, over: *over, replaces }, moment)
        }
        _ => transition(cell, op, moment),
    };
    lets_every_fill_of_a_lease_win: CACHE a_fence_permits_one_fill => |cell, op, moment| match op {
        Op::Fill { fence, .. } => edit_written(transition(cell, op, moment), |cell| cell.token = fence.token),
        _ => transition(cell, op, moment),
    };
    keeps_the_lease_in_an_invalidation: CACHE an_invalidation_kills_the_lease => |cell, op, moment| match (cell, op) {
        (Some(lease), Op::Invalidate { version: None, .. }) if lease.state == State::Lease => {
            (Change::Keep, transition(cell, op, moment).1)
        }
        _ => transition(cell, op, moment),
    };
    spares_the_lease_from_an_old_invalidation: CACHE a_versioned_invalidation_kills_the_lease => |cell, op, moment| {
        match (cell, op) {
            (Some(lease), Op::Invalidate { version: Some(version), .. })
                if lease.state == State::Lease && *version < Version::from_u64(1000) =>
            {
                (Change::Keep, transition(cell, op, moment).1)
            }
            _ => transition(cell, op, moment),
        }
    };
    kills_a_lease_by_an_invalidation_that_it_knew_of: CACHE a_change_older_than_the_lease_spares_it => |cell, op, moment| {
        match (transition(cell, op, moment), op) {
            ((Change::Keep, reply), Op::Invalidate { tombstone_ttl, .. }) if cell.is_some_and(|cell| cell.state == State::Lease) => {
                let (change, _) = transition(cell, &Op::Invalidate { version: None, tombstone_ttl: *tombstone_ttl }, moment);
                (change, reply)
            }
            (outcome, _) => outcome,
        }
    };
    kills_a_lease_by_a_follow_put_that_it_knew_of: CACHE a_change_older_than_the_lease_spares_it => |cell, op, moment| {
        match (transition(cell, op, moment), op) {
            ((Change::Keep, reply), Op::Put { order: Order::Follow(_), tombstone_ttl, .. }) if cell.is_some_and(|cell| cell.state == State::Lease) => {
                let (change, _) = transition(cell, &Op::Invalidate { version: None, tombstone_ttl: *tombstone_ttl }, moment);
                (change, reply)
            }
            (outcome, _) => outcome,
        }
    };
    spares_a_lease_from_what_it_could_not_know: CACHE a_change_older_than_the_lease_spares_it => |cell, op, moment| {
        match (cell, op) {
            (Some(lease), Op::Put { order: Order::Follow(version), .. })
                if lease.state == State::Lease && lease.version != Version::NONE && *version > lease.version =>
            {
                (Change::Keep, Reply::Refused(None))
            }
            _ => transition(cell, op, moment),
        }
    };
    keeps_the_lease_in_a_put: CACHE a_put_kills_the_lease => |cell, op, moment| match (cell, op) {
        (Some(old), Op::Put { order: Order::Author(_), .. }) => {
            edit_written(transition(cell, op, moment), |new| new.token = old.token)
        }
        _ => transition(cell, op, moment),
    };
    keeps_the_lease_in_a_follow_put: CACHE a_follow_put_kills_the_lease => |cell, op, moment| match (cell, op) {
        (Some(old), Op::Put { order: Order::Follow(_), .. }) if old.state == State::Lease => {
            (Change::Keep, transition(cell, op, moment).1)
        }
        _ => transition(cell, op, moment),
    };
    keeps_the_lease_in_an_unfenced_put: CACHE an_unfenced_put_kills_the_lease => |cell, op, moment| match (cell, op) {
        (Some(old), Op::Put { order: Order::Unfenced(_), .. }) => {
            edit_written(transition(cell, op, moment), |new| new.token = old.token)
        }
        _ => transition(cell, op, moment),
    };
    keeps_the_lease_in_a_remove: CACHE a_remove_kills_the_lease => |cell, op, moment| match (cell, op) {
        (Some(old), Op::Remove { .. }) => edit_written(transition(cell, op, moment), |new| {
            (new.state, new.token, new.version) = (State::Lease, old.token, old.version);
        }),
        _ => transition(cell, op, moment),
    };
    hides_the_value_behind_a_lease: CACHE a_lease_over_a_value_lets_it_be_replaced => |cell, op, moment| match op {
        Op::Lease { over: Some(_), .. } => edit_written(transition(cell, op, moment), |cell| cell.state = State::Lease),
        _ => transition(cell, op, moment),
    };
    leases_over_any_value: CACHE a_lease_over_a_value_lets_it_be_replaced => |cell, op, moment| match op {
        Op::Lease { token, ttl, over: Some(_), replaces } => {
            let over = cell.map(|cell| cell.version);
            transition(cell, &Op::Lease { token: *token, ttl: *ttl, over, replaces: *replaces }, moment)
        }
        _ => transition(cell, op, moment),
    };
    forgets_the_floor: CACHE a_fill_below_the_floor_is_refused => |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            if cell.state == State::Lease {
                cell.version = Version::NONE;
            }
        })
    };
    lets_a_late_put_insert: CACHE a_follow_put_inserts_nothing_where_nothing_is => |cell, op, moment| {
        let op = match cell {
            None => with_order(op, |order| match order {
                Order::Follow(version) => Order::Unfenced(version),
                other => other,
            }),
            Some(_) => op.clone(),
        };
        transition(cell, &op, moment)
    };
    lets_a_late_put_replace_a_tombstone: CACHE a_late_follow_put_does_not_undo_a_remove => |cell, op, moment| {
        let op = with_order(op, |order| match order {
            Order::Follow(version) if cell.is_some_and(|cell| cell.state == State::Tombstone) => Order::Unfenced(version),
            other => other,
        });
        transition(cell, &op, moment)
    };
    lets_a_late_put_replace_a_newer_value: CACHE a_follow_put_replaces_nothing_newer => |cell, op, moment| {
        let op = with_order(op, |order| match order {
            Order::Follow(version) if cell.is_some_and(|cell| cell.state == State::Value) => Order::Unfenced(version),
            other => other,
        });
        transition(cell, &op, moment)
    };
    leaves_no_tombstone_for_a_late_put: CACHE a_follow_put_inserts_nothing_where_nothing_is => |cell, op, moment| {
        match (transition(cell, op, moment), op) {
            ((Change::Write(cell), reply), Op::Put { .. }) if cell.state == State::Tombstone => (Change::Keep, reply),
            (outcome, _) => outcome,
        }
    };
    drops_newer_values_in_an_old_invalidation: CACHE a_versioned_invalidation_spares_what_is_as_new => |cell, op, moment| {
        match op {
            Op::Invalidate { tombstone_ttl, .. } => {
                transition(cell, &Op::Invalidate { version: None, tombstone_ttl: *tombstone_ttl }, moment)
            }
            _ => transition(cell, op, moment),
        }
    };
    refuses_an_older_unfenced_put: CACHE an_unfenced_put_is_kept_whatever_is_there => |cell, op, moment| match (cell, op) {
        (Some(cell), Op::Put { order: Order::Unfenced(version), .. }) if cell.version > *version => {
            (Change::Keep, Reply::Refused(None))
        }
        _ => transition(cell, op, moment),
    };
    issues_versions_below_an_invalidation: CACHE an_author_stays_above_the_floor_of_an_invalidation => |cell, op, moment| {
        let dead = cell.filter(|cell| cell.state != State::Tombstone);
        match op {
            Op::Put { order: Order::Author(_), .. } => transition(dead, op, moment),
            _ => transition(cell, op, moment),
        }
    };
    takes_an_empty_value_for_a_negative_entry: CACHE an_empty_value_is_a_value => |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            if cell.state == State::Value && (cell.bytes.is_empty() || cell.bytes.ends_with(b"3")) {
                (cell.state, cell.bytes) = (State::Negative, Bytes::new());
            }
        })
    };
    takes_a_negative_entry_for_a_miss: CACHE a_negative_entry_is_a_hit_without_a_body => |cell, op, moment| {
        match transition(cell, op, moment) {
            (change, Reply::Hit(stored)) if stored.body.is_none() => (change, Reply::Miss(Fence::default())),
            outcome => outcome,
        }
    };
    takes_a_negative_entry_for_a_value: STORE a_negative_entry_counts_as_no_value => |cell, op, moment| {
        let negative = cell.is_some_and(|cell| cell.state == State::Negative);
        match (transition(cell, op, moment), op) {
            ((change, Reply::Done { version, .. }), Op::Remove { .. }) if negative => {
                (change, Reply::Done { existed: true, version })
            }
            (outcome, _) => outcome,
        }
    };
    rounds_deadlines_to_seconds: CACHE deadlines_come_back_to_the_millisecond => |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| cell.deadlines = whole_seconds(cell.deadlines))
    };
    keeps_only_the_last_deadline: STORE deadlines_come_back_to_the_millisecond => |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            let end = cell.deadlines.expires_at;
            cell.deadlines = Deadlines { fresh_until: end, stale_until: end, ..cell.deadlines };
        })
    };
    keeps_for_ever_what_has_no_time: STORE a_value_of_no_time_is_never_there => |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            if cell.deadlines.is_expired(moment.now) {
                cell.deadlines = Deadlines::forever(cell.deadlines.written);
            }
        })
    };
    changes_the_version_in_expire: STORE expire_gives_other_deadlines_and_nothing_else => |cell, op, moment| match op {
        Op::Expire { .. } => edit_written(transition(cell, op, moment), |cell| cell.version = cell.version.next(0)),
        _ => transition(cell, op, moment),
    };
    brings_expired_values_back: STORE expire_brings_nothing_back => |cell, op, moment| match op {
        Op::Expire { .. } => {
            transition(edited(cell, |cell| cell.deadlines = Deadlines::forever(moment.now)).as_ref(), op, moment)
        }
        _ => transition(cell, op, moment),
    };
    ignores_the_condition_absent: STORE a_put_if_absent_is_refused_over_a_value => |cell, op, moment| {
        let op = with_order(op, |order| match order {
            Order::Author(Condition::Absent) => Order::Author(Condition::Always),
            other => other,
        });
        transition(cell, &op, moment)
    };
    ignores_the_condition_version: CACHE a_replace_needs_the_version_that_is_there => |cell, op, moment| {
        let op = with_order(op, |order| match order {
            Order::Author(Condition::Version(_)) => Order::Author(Condition::Always),
            other => other,
        });
        transition(cell, &op, moment)
    };
    issues_the_same_version_twice: STORE a_version_grows_over_a_floor_ahead_of_the_clock => |cell, op, moment| {
        let below = edited(cell, |cell| cell.version = Version::from_u64(cell.version.as_u64().saturating_sub(1)));
        match op {
            Op::Put { order: Order::Author(Condition::Always), .. } => transition(below.as_ref(), op, moment),
            _ => transition(cell, op, moment),
        }
    };
    ignores_the_observed_version: STORE a_fill_that_lost_to_a_remove_is_refused_without_a_record => |cell, op, moment| {
        match op {
            Op::Fill { version, deadlines, body, .. } => {
                let fence = Fence { version: cell.map_or(Version::NONE, |cell| cell.version), ..Fence::default() };
                let fill = Op::Fill { fence, version: *version, deadlines: *deadlines, body: body.clone() };
                transition(cell, &fill, moment)
            }
            _ => transition(cell, op, moment),
        }
    };
    tells_no_winner: STORE a_fill_that_lost_to_a_creator_returns_the_winner => |cell, op, moment| {
        match transition(cell, op, moment) {
            (change, Reply::Refused(_)) => (change, Reply::Refused(None)),
            outcome => outcome,
        }
    };
    replaces_a_record_by_a_fill: STORE a_fill_never_replaces_a_record => |cell, op, moment| match (cell, op) {
        (Some(record), Op::Fill { fence, .. }) if record.version == fence.version => {
            transition(edited(cell, |cell| cell.state = State::Tombstone).as_ref(), op, moment)
        }
        _ => transition(cell, op, moment),
    };
    leaves_no_tombstone_for_a_remove_of_an_absent_key: STORE a_remove_of_an_absent_key_refuses_a_fill_that_saw_it_absent => |cell, op, moment| {
        match (cell, op) {
            (None, Op::Remove { .. }) => (Change::Keep, transition(cell, op, moment).1),
            _ => transition(cell, op, moment),
        }
    };
    forgets_the_tombstone_of_a_remove: STORE a_fill_after_a_remove_that_it_saw_is_kept => |cell, op, moment| {
        transition(cell.filter(|cell| cell.state != State::Tombstone), op, moment)
    };
    forgets_expired_records: STORE an_expired_record_is_absent_and_its_version_is_remembered => |cell, op, moment| {
        transition(cell.filter(|cell| !cell.deadlines.is_expired(moment.now)), op, moment)
    };
    tells_that_something_was_there: STORE a_remove_deletes_and_tells_whether_there_was_a_value => |cell, op, moment| {
        match (transition(cell, op, moment), op) {
            ((change, Reply::Done { version, .. }), Op::Remove { .. }) => (change, Reply::Done { existed: true, version }),
            (outcome, _) => outcome,
        }
    };
}

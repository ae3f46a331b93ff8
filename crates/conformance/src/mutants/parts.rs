//! Tiers whose other parts are broken: clocks, clears, addresses, batches, handles, atomicity.

use super::*;

fn to_seconds_at_least_one(deadlines: Deadlines, now: Timestamp) -> Deadlines {
    let left = deadlines.remaining(now).as_secs().max(1);
    Deadlines::ttl(now, std::time::Duration::from_secs(left))
}

#[tokio::test]
async fn rounds_a_short_life_up_to_a_second() {
    let broken: Rule = |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            cell.deadlines = to_seconds_at_least_one(cell.deadlines, moment.now);
        })
    };
    caught(CACHE, "a_value_of_40_milliseconds_lives_and_ends", subject(rule(broken))).await;
    caught(CACHE, "a_lease_ends_with_its_time", subject(rule(broken))).await;
    caught(STORE, "a_value_of_no_time_is_never_there", subject(rule(broken))).await;
}

#[tokio::test]
async fn overflows_a_long_life() {
    let broken: Rule = |cell, op, moment| {
        edit_written(transition(cell, op, moment), |cell| {
            if cell.deadlines.expires_at == Timestamp::NEVER {
                cell.deadlines.expires_at = Timestamp::from_millis(u64::MAX / 2);
            }
        })
    };
    caught(STORE, "a_value_of_u64_max_seconds_lives", subject(rule(broken))).await;
}

#[tokio::test]
async fn does_not_extend_a_lease() {
    let broken: Rule = |cell, op, moment| match (cell, op) {
        (Some(cell), Op::Lease { .. })
            if cell.state == State::Lease && !cell.deadlines.is_expired(moment.now) =>
        {
            let (_, reply) = transition(Some(cell), op, moment);
            (Change::Keep, reply)
        }
        _ => transition(cell, op, moment),
    };
    caught(CACHE, "a_second_reader_extends_the_lease", subject(rule(broken))).await;
}

#[tokio::test]
async fn issues_versions_by_another_clock() {
    let broken: Rule =
        |cell, op, moment| transition(cell, op, &Moment::new(moment.role, moment.now, 0, moment.epoch));
    caught(STORE, "an_issued_version_is_the_clock_in_microseconds", subject(rule(broken))).await;
}

#[tokio::test]
async fn cuts_values() {
    let broken: Rule =
        |cell, op, moment| edit_written(transition(cell, op, moment), |cell| cell.bytes.truncate(65_536));
    caught(CACHE, "values_of_all_bytes_and_1_mib_come_back", subject(rule(broken))).await;
    caught(STORE, "a_value_of_64_mib_is_kept_or_too_large", subject(rule(broken))).await;
}

#[tokio::test]
async fn clears_nothing() {
    let hooks = || Hooks { clear: |_, _| (), ..Hooks::default() };
    caught(CACHE, "a_clear_makes_values_dead", subject(hooks())).await;
    caught(CACHE, "a_clear_kills_leases", subject(hooks())).await;
    assert!(oracle(subject(hooks()), Role::Cache, 1, 400).await.is_err());
}

fn clear_all_but(data: &mut Data, namespace: &Namespace, keep: State) {
    data.cells.retain(|(name, tenant, _), cell| {
        *name != namespace.name || *tenant != namespace.tenant || cell.state == keep
    });
}

#[tokio::test]
async fn keeps_leases_in_a_clear() {
    let hooks = || Hooks {
        clear: |data, namespace| clear_all_but(data, namespace, State::Lease),
        ..Hooks::default()
    };
    caught(CACHE, "a_clear_kills_leases", subject(hooks())).await;
    caught(CACHE, "a_clear_is_seen_by_every_handle", subject(hooks())).await;
}

#[tokio::test]
async fn keeps_negative_entries_in_a_clear() {
    let hooks = Hooks {
        clear: |data, namespace| clear_all_but(data, namespace, State::Negative),
        ..Hooks::default()
    };
    caught(CACHE, "a_clear_makes_values_dead", subject(hooks)).await;
}

#[tokio::test]
async fn takes_dead_values_for_older_ones() {
    let broken: Rule = |cell, op, moment| match op {
        Op::Put { order: Order::Follow(_), .. } => {
            transition(edited(cell, |cell| cell.epoch = moment.epoch).as_ref(), op, moment)
        }
        _ => transition(cell, op, moment),
    };
    caught(CACHE, "writes_after_a_clear_are_kept", subject(rule(broken))).await;
}

#[tokio::test]
async fn clears_no_tenant() {
    let clear = |data: &mut Data, namespace: &Namespace| {
        data.cells.retain(|(name, tenant, _), _| *name != namespace.name || *tenant != namespace.tenant);
    };
    let hooks = Hooks { clear, ..Hooks::default() };
    caught(CACHE, "a_clear_without_a_tenant_is_one_of_all_tenants", subject(hooks)).await;
}

#[tokio::test]
async fn clears_every_namespace() {
    let clear = |data: &mut Data, _: &Namespace| data.cells.clear();
    caught(CACHE, "namespaces_are_apart", subject(Hooks { clear, ..Hooks::default() })).await;
    caught(CACHE, "tenants_are_apart", subject(Hooks { clear, ..Hooks::default() })).await;
}

fn at(namespace: String, key: impl Into<Bytes>) -> crate::fake::Address {
    (namespace, None, key.into())
}

#[tokio::test]
async fn forgets_the_tenant() {
    let address = |namespace: &Namespace, key: &TierKey| at(namespace.name.clone(), key.bytes.clone());
    let hooks = || Hooks { address, ..Hooks::default() };
    caught(CACHE, "tenants_are_apart", subject(hooks())).await;
    caught(STORE, "tenants_are_apart", subject(hooks())).await;
}

#[tokio::test]
async fn takes_no_tenant_for_the_empty_one() {
    let address = |namespace: &Namespace, key: &TierKey| {
        (namespace.name.clone(), Some(namespace.tenant.clone().unwrap_or_default()), key.bytes.clone())
    };
    caught(STORE, "tenants_are_apart", subject(Hooks { address, ..Hooks::default() })).await;
}

#[tokio::test]
async fn joins_names_with_a_colon() {
    let address = |namespace: &Namespace, key: &TierKey| {
        let joined = [namespace.name.as_bytes(), b":", &key.bytes].concat();
        (String::new(), namespace.tenant.clone(), Bytes::from(joined))
    };
    caught(CACHE, "names_that_read_alike_are_apart", subject(Hooks { address, ..Hooks::default() })).await;
}

#[tokio::test]
async fn forgets_the_namespace() {
    let address =
        |namespace: &Namespace, key: &TierKey| (String::new(), namespace.tenant.clone(), key.bytes.clone());
    caught(STORE, "namespaces_are_apart", subject(Hooks { address, ..Hooks::default() })).await;
}

#[tokio::test]
async fn confuses_keys() {
    type Address = fn(&Namespace, &TierKey) -> crate::fake::Address;
    let lossy: Address =
        |namespace, key| at(namespace.name.clone(), String::from_utf8_lossy(&key.bytes).into_owned());
    let until_nul: Address = |namespace, key| {
        let end = key.bytes.iter().position(|byte| *byte == 0).unwrap_or(key.bytes.len());
        at(namespace.name.clone(), key.bytes.slice(..end))
    };
    let trimmed: Address =
        |namespace, key| at(namespace.name.clone(), Bytes::copy_from_slice(key.bytes.trim_ascii()));
    let any_case: Address = |namespace, key| at(namespace.name.clone(), key.bytes.to_ascii_lowercase());
    let cut: Address =
        |namespace, key| at(namespace.name.clone(), key.bytes.slice(..key.bytes.len().min(2704)));
    for address in [lossy, until_nul, trimmed, any_case, cut] {
        let hooks = Hooks { address, ..Hooks::default() };
        caught(STORE, "hostile_keys_are_keys_like_any_other", subject(hooks)).await;
    }
}

#[tokio::test]
async fn confuses_the_answers_of_a_batch() {
    type Batch = fn(Vec<Result<Reply>>) -> Vec<Result<Reply>>;
    let reversed: Batch = |replies| replies.into_iter().rev().collect();
    let hits_only: Batch =
        |replies| replies.into_iter().filter(|reply| !matches!(reply, Ok(Reply::Miss(_)))).collect();
    let hits_first: Batch = |mut replies| {
        replies.sort_by_key(|reply| matches!(reply, Ok(Reply::Miss(_))));
        replies
    };
    let cut: Batch = |mut replies| {
        replies.truncate(999);
        replies
    };
    for batch in [reversed, hits_only, hits_first, cut] {
        let hooks = Hooks { batch, ..Hooks::default() };
        caught(STORE, "batches_answer_in_order_with_hits_and_misses_mixed", subject(hooks)).await;
    }
    let reversed = || Hooks { batch: reversed, ..Hooks::default() };
    caught(CACHE, "a_batch_of_leases_and_fills_is_fenced_key_by_key", subject(reversed())).await;
    caught(STORE, "a_batch_of_conditional_puts_is_decided_key_by_key", subject(reversed())).await;
    caught(STORE, "a_batch_of_removes_tells_what_was_there", subject(reversed())).await;
    caught(CACHE, "a_batch_of_invalidations_and_follow_puts_is_decided_key_by_key", subject(reversed()))
        .await;
}

#[tokio::test]
async fn lets_a_lease_survive_its_eviction() {
    let broken: Rule = |cell, op, moment| match (cell, op) {
        (None, Op::Fill { fence, version, deadlines, body }) if fence.token != Token::NONE => {
            let order = Order::Unfenced(*version);
            let (deadlines, body) = (*deadlines, body.clone());
            let tombstone_ttl = std::time::Duration::ZERO;
            transition(None, &Op::Put { order, deadlines, body, tombstone_ttl }, moment)
        }
        _ => transition(cell, op, moment),
    };
    caught(EVICT, "an_evicted_lease_permits_no_fill", subject(rule(broken))).await;
    caught(EVICT, "an_evicted_tombstone_permits_no_fill", subject(rule(broken))).await;
}

#[tokio::test]
async fn lets_a_late_put_in_after_an_eviction() {
    let broken: Rule = |cell, op, moment| {
        let op = with_order(op, |order| match order {
            Order::Follow(version) if cell.is_none() => Order::Unfenced(version),
            other => other,
        });
        transition(cell, &op, moment)
    };
    caught(EVICT, "a_late_put_after_an_eviction_is_not_kept", subject(rule(broken))).await;
}

#[tokio::test]
async fn does_not_share_data_between_handles() {
    let apart = || Subject::new(Fake::new()).second(Fake::new());
    caught(CACHE, "handles_see_each_others_writes_and_leases", apart()).await;
    caught(CACHE, "a_clear_is_seen_by_every_handle", apart()).await;
    caught(STORE, "a_record_is_there_for_another_handle", apart()).await;
}

/// A backend that opens every namespace as a cache tier, so that a clear also drops records.
struct Careless(Fake);

impl Backend for Careless {
    fn name(&self) -> &str {
        "careless"
    }

    fn open(&self, namespace: &Namespace) -> Result<std::sync::Arc<dyn Tier>, Error> {
        self.0.another_handle().open(&namespace.clone().with_role(Role::Cache))
    }
}

/// A backend that serves one value type, so that the next version of a program cannot start.
struct OneType(Fake, Namespace);

impl Backend for OneType {
    fn name(&self) -> &str {
        "one type"
    }

    fn open(&self, namespace: &Namespace) -> Result<std::sync::Arc<dyn Tier>, Error> {
        let is_known = (namespace.schema, namespace.shape) == (self.1.schema, self.1.shape);
        let in_use = Error::new(terrace_tier::ErrorKind::NamespaceInUse, "another value type");
        if is_known { self.0.open(namespace) } else { Err(in_use) }
    }
}

#[tokio::test]
async fn refuses_another_value_type() {
    let (one, any) = (Fake::new(), Fake::new());
    let known = Namespace::new("any", Role::Cache).with_type(1, 7);
    let subject = || Subject::new(OneType(one.another_handle(), known.clone()));
    caught(CACHE, "a_namespace_with_other_options_is_in_use", subject()).await;
    let second = OneType(any.another_handle(), known.clone());
    let subject = Subject::new(OneType(any, known)).second(second);
    caught(PROCESSES, "programs_with_other_value_types_are_ready_at_once", subject).await;
}

#[tokio::test]
async fn opens_a_namespace_with_any_options() {
    caught(CACHE, "a_namespace_with_other_options_is_in_use", Subject::new(Careless(Fake::new()))).await;
}

#[tokio::test]
async fn keeps_its_options_to_itself() {
    let apart = Subject::new(Fake::new()).second(Fake::new());
    caught(PROCESSES, "ready_refuses_other_options_than_another_process_uses", apart).await;
}

/// Fills with the present epoch instead of the epoch of the lease.
#[tokio::test]
async fn revives_a_fill_that_a_clear_overtook() {
    let broken: Rule = |cell, op, moment| match op {
        Op::Fill { .. } => transition(edited(cell, |cell| cell.epoch = moment.epoch).as_ref(), op, moment),
        _ => transition(cell, op, moment),
    };
    caught(CACHE, "a_fill_that_anothers_clear_overtook_is_never_read", subject(rule(broken))).await;
}

#[tokio::test]
async fn gives_answers_to_others() {
    // The whole namespace has one cell, so every read finds the last write of any key.
    let address = |namespace: &Namespace, _: &TierKey| at(namespace.name.clone(), Bytes::new());
    let hooks = Hooks { address, ..Hooks::default() };
    caught(STORE, "ten_thousand_operations_at_once_get_their_own_answers", subject(hooks)).await;
}

#[tokio::test]
async fn loses_records_in_a_clear() {
    caught(STORE, "a_clear_keeps_records", Subject::new(Careless(Fake::new()))).await;
}

/// A tier that compares and swaps in two steps: another call may come between them.
#[derive(Debug)]
struct Torn(std::sync::Arc<dyn Tier>);

#[async_trait::async_trait]
impl Tier for Torn {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match &op {
            // The decision uses an answer that may be old by then.
            Op::Fill { version, .. } | Op::Put { order: Order::Author(Condition::Version(version)), .. } => {
                let seen = self.0.apply(key, Op::Get).await?;
                for _ in 0..3 {
                    tokio::task::yield_now().await;
                }
                let permitted = match (&op, &seen) {
                    (Op::Fill { .. }, Reply::Miss(_)) => true,
                    (Op::Put { .. }, Reply::Hit(stored)) => stored.version == *version,
                    _ => false,
                };
                let (Op::Fill { deadlines, body, .. } | Op::Put { deadlines, body, .. }) = op.clone() else {
                    return Ok(Reply::Refused(None));
                };
                let tombstone_ttl = std::time::Duration::from_secs(60);
                let order = Order::Author(Condition::Always);
                if permitted {
                    self.0.apply(key, Op::Put { order, deadlines, body, tombstone_ttl }).await
                } else {
                    Ok(Reply::Refused(None))
                }
            }
            _ => self.0.apply(key, op).await,
        }
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

struct TornBackend(Fake);

impl Backend for TornBackend {
    fn name(&self) -> &str {
        "torn"
    }

    fn open(&self, namespace: &Namespace) -> Result<std::sync::Arc<dyn Tier>> {
        Ok(std::sync::Arc::new(Torn(self.0.open(namespace)?)))
    }
}

#[tokio::test]
async fn compares_and_swaps_in_two_steps() {
    let torn = || Subject::new(TornBackend(Fake::new()));
    caught(CACHE, "of_racing_fills_one_wins", torn()).await;
    caught(STORE, "of_racing_fills_one_wins", torn()).await;
    caught(STORE, "racing_replaces_lose_no_update", torn()).await;
}

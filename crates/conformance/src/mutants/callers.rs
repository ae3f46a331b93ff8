//! Tiers that send the writes of concurrent callers together, and take one of them for another.

use std::{sync::Arc, time::Duration};

use terrace_tier::{BatchCall, BatchLimits, Batcher};

use super::*;

/// What a broken tier does to the writes that it sends together.
type Together = fn(Vec<(TierKey, Op)>) -> Vec<(TierKey, Op)>;
/// What it does to their answers.
type Answers = fn(&[(TierKey, Op)], Vec<Result<Reply>>) -> Vec<Result<Reply>>;

#[derive(Clone, Copy)]
struct Fault {
    together: Together,
    answers: Answers,
}

const NONE: Fault = Fault { together: |writes| writes, answers: |_, answers| answers };

/// Applies writes that came together, one after the other.
struct SendTogether {
    tier: Arc<dyn Tier>,
    fault: Fault,
}

impl BatchCall for SendTogether {
    type Request = (TierKey, Op);
    type Reply = Result<Reply>;

    async fn one(&self, (key, op): (TierKey, Op)) -> Result<Result<Reply>> {
        Ok(self.tier.apply(&key, op).await)
    }

    async fn many(&self, requests: Vec<(TierKey, Op)>) -> Result<Vec<Result<Reply>>> {
        let writes = (self.fault.together)(requests);
        let mut answers = Vec::new();
        for (key, op) in &writes {
            answers.push(self.tier.apply(key, op.clone()).await);
        }
        Ok((self.fault.answers)(&writes, answers))
    }
}

#[derive(Debug)]
struct SharingTier(Arc<dyn Tier>, Batcher<SendTogether>);

#[async_trait::async_trait]
impl Tier for SharingTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        match op {
            Op::Get | Op::Lease { .. } => self.0.apply(key, op).await,
            _ => self.1.call((key.clone(), op)).await?,
        }
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

struct Sharing(Fake, Fault);

impl Backend for Sharing {
    fn name(&self) -> &str {
        "sharing"
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let tier = self.0.open(namespace)?;
        let limits = BatchLimits::new(Duration::from_secs(60)).with_direct(0);
        let batcher = Batcher::new(SendTogether { tier: Arc::clone(&tier), fault: self.1 }, limits);
        Ok(Arc::new(SharingTier(tier, batcher)))
    }
}

async fn sharing_caught(name: &str, fault: Fault) {
    caught(STORE, name, Subject::new(Sharing(Fake::new(), fault))).await;
}

#[tokio::test]
async fn a_tier_that_sends_writes_together_rightly_passes() {
    for case in STORE.iter().chain(CACHE) {
        if case.name.contains("many") || case.name.contains("callers") {
            case.run(Subject::new(Sharing(Fake::new(), NONE))).await.unwrap();
        }
    }
}

#[tokio::test]
async fn answers_the_writes_of_others() {
    let answers: Answers = |_, answers| answers.into_iter().rev().collect();
    let name = "each_of_many_callers_gets_the_answer_to_its_own_write";
    sharing_caught(name, Fault { answers, ..NONE }).await;
}

#[tokio::test]
async fn refuses_all_writes_with_one() {
    let answers: Answers = |_, answers| match answers.iter().position(|a| matches!(a, Ok(Reply::Refused(_))))
    {
        Some(refused) => answers.iter().map(|_| answers[refused].clone()).collect(),
        None => answers,
    };
    sharing_caught("refused_writes_among_many_are_refused_alone", Fault { answers, ..NONE }).await;
}

#[tokio::test]
async fn refuses_all_writes_beside_a_large_one() {
    let answers: Answers = |writes, answers| {
        let large = |op: &Op| matches!(op, Op::Put { body: Some(body), .. } if body.len() > 1 << 20);
        match writes.iter().any(|(_, op)| large(op)) {
            true => {
                let error = Error::new(terrace_tier::ErrorKind::TooLarge, "the statement is too large");
                answers.iter().map(|_| Err(error.clone())).collect()
            }
            false => answers,
        }
    };
    sharing_caught("an_oversized_write_among_many_fails_alone", Fault { answers, ..NONE }).await;
}

#[tokio::test]
async fn gives_the_writes_of_a_key_one_version() {
    let answers: Answers = |writes, answers| {
        let last = |(key, _): &(TierKey, Op)| writes.iter().rposition(|(other, _)| other == key);
        writes.iter().filter_map(|write| answers.get(last(write)?).cloned()).collect()
    };
    sharing_caught("writes_of_one_key_by_many_callers_have_one_order", Fault { answers, ..NONE }).await;
}

#[tokio::test]
async fn writes_in_another_order_than_that_of_the_versions() {
    // The first write of a key comes again after the others.
    let together: Together = |mut writes| {
        writes.extend(writes.first().cloned());
        writes
    };
    let fault = Fault { together, ..NONE };
    sharing_caught("writes_of_one_key_by_many_callers_have_one_order", fault).await;
}

#[tokio::test]
async fn decides_the_conditions_of_a_batch_before_it_writes() {
    let together: Together = |writes| {
        let always = |op: &Op| with_order(op, |_| Order::Author(Condition::Always));
        writes.into_iter().map(|(key, op)| (key, always(&op))).collect()
    };
    sharing_caught("of_many_callers_who_create_a_value_one_wins", Fault { together, ..NONE }).await;
}

/// A tier that writes the first half of a value and then the whole one.
#[derive(Debug)]
struct HalvingTier(Arc<dyn Tier>);

#[async_trait::async_trait]
impl Tier for HalvingTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        if let Op::Put { order, deadlines, body: Some(body), tombstone_ttl } = &op {
            let (order, deadlines, tombstone_ttl) = (*order, *deadlines, *tombstone_ttl);
            let half = Some(body.slice(..body.len() / 2));
            self.0.apply(key, Op::Put { order, deadlines, body: half, tombstone_ttl }).await?;
            tokio::task::yield_now().await;
        }
        self.0.apply(key, op).await
    }

    async fn clear(&self) -> Result<()> {
        self.0.clear().await
    }

    async fn ping(&self) -> Result<()> {
        self.0.ping().await
    }
}

struct Halving(Fake);

impl Backend for Halving {
    fn name(&self) -> &str {
        "halving"
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        Ok(Arc::new(HalvingTier(self.0.open(namespace)?)))
    }
}

#[tokio::test]
async fn writes_a_value_in_halves() {
    caught(STORE, "callers_that_leave_cut_no_write_in_two", Subject::new(Halving(Fake::new()))).await;
}

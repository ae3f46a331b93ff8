//! Write-behind, over fakes.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

#[path = "write_behind/basics.rs"]
mod basics;
#[path = "write_behind/cap.rs"]
mod cap;
#[path = "write_behind/conditions.rs"]
mod conditions;
#[path = "write_behind/faults.rs"]
mod faults;
#[path = "write_behind/file.rs"]
mod file;
#[path = "write_behind/fronts.rs"]
mod fronts;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use support::{Near, Stack, builder, ms};
use terrace_conformance::Fake;
use terrace_core::{
    Builder,
    policy::{Backlog, BehindPlan, Copies, FullJitter, WritePlan, WritePolicy},
};
use terrace_tier::{Backend, Namespace, Op, Reply, Role, Tier, TierKey, key_digest};

/// A write-behind policy with this plan.
pub(crate) struct Behind(BehindPlan);

impl WritePolicy for Behind {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Replace }
    }

    fn behind(&self) -> Option<BehindPlan> {
        Some(self.0.clone())
    }
}

/// Flushes after 50 ms, and after 10 ms where the store has failed.
pub(crate) fn plan() -> BehindPlan {
    let mut plan = BehindPlan::default();
    plan.retry = FullJitter::new(ms(10), ms(10));
    plan.cap = Backlog::bytes(1 << 20);
    plan
}

pub(crate) fn behind() -> Builder<String, u64, Near> {
    builder().write(Behind(plan()))
}

pub(crate) fn stack(store: &Fake) -> Stack {
    behind().store(store.clone()).build().unwrap()
}

/// The tier as another process opens it, and the name of a key there.
pub(crate) fn as_another_process(tier: &Fake, role: Role, key: &str) -> (Arc<dyn Tier>, TierKey) {
    let namespace = Namespace::new("tests", role).with_budget(Duration::from_secs(1));
    // A text key is its own bytes.
    let bytes = Bytes::copy_from_slice(key.as_bytes());
    let key = TierKey { digest: key_digest("tests", None, &bytes), bytes };
    (tier.another_handle().open(&namespace).unwrap(), key)
}

/// Whether a tier has a value of the key, asked by another process.
pub(crate) async fn has(tier: &Fake, role: Role, key: &str) -> bool {
    let (tier, key) = as_another_process(tier, role, key);
    matches!(tier.apply(&key, Op::Get).await.unwrap(), Reply::Hit(stored) if stored.body.is_some())
}

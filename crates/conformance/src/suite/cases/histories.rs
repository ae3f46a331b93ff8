//! Random histories, checked by the oracle.

use crate::suite::{Bench, Outcome, oracle};

pub(crate) async fn random_histories_agree_with_the_transition(bench: &Bench) -> Outcome {
    let mut subject = bench.subject.clone();
    subject.evict = None;
    for seed in 0..8 {
        oracle(subject.clone(), bench.role(), seed, 150).await?;
    }
    Ok(())
}

pub(crate) async fn random_histories_with_evictions_agree_with_the_transition(bench: &Bench) -> Outcome {
    for seed in 100..108 {
        oracle(bench.subject.clone(), bench.role(), seed, 150).await?;
    }
    Ok(())
}

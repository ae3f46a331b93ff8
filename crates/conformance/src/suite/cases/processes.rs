//! The options of a namespace, as `ready` compares them across processes.

use terrace_tier::{ErrorKind, Level};

use crate::suite::{Outcome, bench::Bench, ensure_eq};

pub(crate) async fn ready_refuses_other_options_than_another_process_uses(bench: &Bench) -> Outcome {
    bench.tier.ready().await?;
    bench.tier.ready().await?;
    bench.through_second_handle()?.tier.ready().await?;
    let second = bench.subject.second.as_ref().unwrap_or(&bench.subject.backend);
    // Another namespace is needed, because a handle keeps the options of one that it has opened.
    let ours = bench.sibling(|sibling| sibling.name.push('2'))?;
    ours.tier.ready().await?;
    let theirs = ours.namespace.clone().with_level(Level::Ttl);
    let refused = second.open(&theirs)?.ready().await.err().map(|error| error.kind());
    ensure_eq!(refused, Some(ErrorKind::NamespaceInUse), "`ready` must refuse another level");
    ours.tier.ready().await?;
    Ok(())
}

/// Old and new versions of a program run side by side, forward and back: the value type does not matter.
pub(crate) async fn programs_with_other_value_types_are_ready_at_once(bench: &Bench) -> Outcome {
    let second = bench.subject.second.as_ref().unwrap_or(&bench.subject.backend);
    let ours = bench.sibling(|namespace| namespace.name.push('3'))?;
    let mut newer = ours.namespace.clone();
    (newer.schema, newer.shape) = (newer.schema + 1, newer.shape + 1);
    for _ in 0..2 {
        let ours = ours.tier.ready().await.err().map(|error| error.kind());
        let theirs = match second.open(&newer) {
            Ok(tier) => tier.ready().await.err().map(|error| error.kind()),
            Err(error) => Some(error.kind()),
        };
        ensure_eq!((ours, theirs), (None, None), "both versions of a program must be ready");
    }
    Ok(())
}

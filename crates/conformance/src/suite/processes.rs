//! What a backend tells other processes of the terms of a namespace.

use terrace_core::ErrorKind;

use super::{Outcome, bench::Bench, ensure_eq};

pub(crate) async fn ready_refuses_other_terms_than_another_process_uses(bench: &Bench) -> Outcome {
    bench.tier.ready().await?;
    bench.tier.ready().await?;
    bench.through_second_handle()?.tier.ready().await?;
    let second = bench.subject.second.as_ref().unwrap_or(&bench.subject.backend);
    let mut space = bench.space.clone();
    // A namespace of its own for each try, since a handle keeps to its terms.
    for change in ["an older schema", "another shape"] {
        space.namespace.push('2');
        let ours = bench.sibling(|sibling| sibling.namespace.clone_from(&space.namespace))?;
        ours.tier.ready().await?;
        let mut theirs = space.clone();
        if change == "an older schema" {
            // A higher one may take over: that is how a type is changed.
            theirs.schema -= 1;
        } else {
            theirs.shape += 1;
        }
        let refused = second.open(&theirs)?.ready().await.err().map(|error| error.kind());
        ensure_eq!(refused, Some(ErrorKind::NamespaceInUse), "another process has {change}");
        ours.tier.ready().await?;
    }
    Ok(())
}

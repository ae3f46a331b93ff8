//! The options of a namespace, as `ready` compares them across processes.

use terrace_tier::{ErrorKind, Level, Namespace};

use crate::suite::{Outcome, bench::Bench, ensure_eq};

/// The option that another process has changed.
type Change = (&'static str, fn(&mut Namespace));

pub(crate) async fn ready_refuses_other_options_than_another_process_uses(bench: &Bench) -> Outcome {
    bench.tier.ready().await?;
    bench.tier.ready().await?;
    bench.through_second_handle()?.tier.ready().await?;
    let second = bench.subject.second.as_ref().unwrap_or(&bench.subject.backend);
    let mut namespace = bench.namespace.clone();
    // Each change needs another namespace, because a handle keeps the options of one that it has opened.
    let changes: [Change; 3] = [
        ("an older schema", |namespace| namespace.schema -= 1),
        ("another shape", |namespace| namespace.shape += 1),
        ("another level", |namespace| namespace.level = Level::Ttl),
    ];
    for (change, apply) in changes {
        namespace.name.push('2');
        let ours = bench.sibling(|sibling| sibling.name.clone_from(&namespace.name))?;
        ours.tier.ready().await?;
        let mut theirs = namespace.clone();
        apply(&mut theirs);
        let refused = second.open(&theirs)?.ready().await.err().map(|error| error.kind());
        ensure_eq!(refused, Some(ErrorKind::NamespaceInUse), "`ready` must refuse {change}");
        ours.tier.ready().await?;
    }
    Ok(())
}

/// A type changes in this way while old and new programs run: neither reads the other's values.
pub(crate) async fn a_higher_schema_takes_the_namespace_over(bench: &Bench) -> Outcome {
    let second = bench.subject.second.as_ref().unwrap_or(&bench.subject.backend);
    let ours = bench.sibling(|namespace| namespace.name.push('2'))?;
    ours.tier.ready().await?;
    let mut newer = ours.namespace.clone();
    (newer.schema, newer.shape) = (newer.schema + 1, newer.shape + 1);
    second.open(&newer)?.ready().await?;
    let refused = ours.tier.ready().await.err().map(|error| error.kind());
    ensure_eq!(
        refused,
        Some(ErrorKind::NamespaceInUse),
        "`ready` must refuse a schema older than the newest"
    );
    second.open(&newer)?.ready().await?;
    Ok(())
}

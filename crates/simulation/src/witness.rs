//! What servers do, as facts of the history, derived from operations and replies alone.

use terrace_tier::{Op, Order, Reply, Result, Role, Stored, TierKey, Version};

use crate::{
    encoding::{key_of, value_in, value_of},
    history::{At, Fact},
    message::Link,
    recorder::Recorder,
};

/// Records that a server has carried out an operation.
pub(crate) fn carried_out(
    recorder: &Recorder,
    link: Link,
    late: bool,
    key: &TierKey,
    op: &Op,
    reply: &Result<Reply>,
) {
    if key.bytes.len() != 8 {
        return;
    }
    let key = key_of(key);
    if !matches!(op, Op::Put { .. } | Op::Fill { .. }) {
        if let (Role::Store, Op::Remove { .. }, Ok(Reply::Done { version, .. })) = (link.role, op, reply) {
            recorder.committed(key, None, *version);
        }
        return;
    }
    let Ok(Reply::Kept(version)) = reply else { return };
    let value = value_in(op);
    if link.role == Role::Store {
        return recorder.committed(key, value, *version);
    }
    // The caller of this put got no reply: the put may happen at any time, and happens now.
    if late && link.authority && matches!(op, Op::Put { order: Order::Author(_), .. }) {
        recorder.changed(key, value);
        recorder.changed(key, recorder.origin(key));
    }
    if let Some(value) = value {
        recorder.fact(Fact::Shown { tier: link.server, key, value });
    }
}

/// The time up to which a process knows all changes of the truth once it knows that this operation was
/// carried out; `None` where the operation says nothing of them.
/// The operation was carried out at `at` or later.
pub(crate) fn covered(
    recorder: &Recorder,
    at: At,
    link: Link,
    key: &TierKey,
    op: &Op,
    version: Option<Version>,
) -> Option<At> {
    match (op, version) {
        (Op::Put { order: Order::Author(_), .. }, _) if link.role == Role::Cache => {
            value_in(op).and_then(|value| recorder.changed_at(value))
        }
        (Op::Invalidate { version: None, .. }, _) => Some(at),
        (Op::Put { .. } | Op::Fill { .. } | Op::Invalidate { .. } | Op::Remove { .. }, Some(version)) => {
            let committed = recorder.committed_at(key_of(key), version);
            // An absence that no removal left is older than every change.
            let before_all = || (version == Version::NONE).then_some(At(0));
            committed
                .or_else(|| value_in(op).and_then(|value| recorder.changed_at(value)))
                .or_else(before_all)
        }
        _ => None,
    }
}

/// Records that a process got the reply to an operation, which it sent at `asked`. The server may have carried it out
/// long before the reply came.
pub(crate) fn answered(
    recorder: &Recorder,
    asked: At,
    link: Link,
    key: &TierKey,
    op: &Op,
    reply: &Result<Reply>,
) {
    if key.bytes.len() != 8 {
        return;
    }
    let ordered = match op {
        Op::Put { order: Order::Follow(version) | Order::Unfenced(version), .. } => Some(*version),
        Op::Invalidate { version, .. } => *version,
        _ => None,
    };
    // The tier has a copy of a higher version. Without a store it says nothing of this write.
    let keeps = |stored: &Stored| ordered.is_some_and(|version| stored.version > version);
    let writes = matches!(op, Op::Put { .. } | Op::Invalidate { .. } | Op::Remove { .. });
    match reply {
        Ok(Reply::Refused(Some(kept))) if link.role == Role::Cache && !link.stored && keeps(kept) => {}
        Ok(_) if writes && link.role == Role::Cache => {
            let Link { process, server: tier, .. } = link;
            let put = matches!(op, Op::Put { .. });
            let covers = covered(recorder, asked, link, key, op, ordered);
            let key = Some(key_of(key));
            recorder.fact(Fact::Confirmed { tier, process, key, put, covers });
        }
        Ok(Reply::Hit(stored) | Reply::Refused(Some(stored))) if link.role == Role::Store => {
            if let Some(value) = stored.body.as_deref().and_then(value_of) {
                recorder.fact(Fact::Obtained { value });
            }
        }
        _ => {}
    }
}

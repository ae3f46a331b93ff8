//! The options of a namespace on the server, by which processes detect that they disagree.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use terrace_tier::{ErrorKind, Namespace, Result};
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, within},
    error::{Effect, NAME, error, server_error, unexpected_reply},
    namespace::NamespaceState,
    scripts::{Call, Script, ScriptCall},
};

/// How long the server keeps the options after they were registered.
const OPTIONS_TTL: Duration = Duration::from_secs(60);
/// The age at which a tier in use registers them again.
const RENEW_AFTER: Duration = Duration::from_secs(20);

/// Registers the options of `namespace` on the server.
///
/// # Errors
/// [`ErrorKind::NamespaceInUse`] where another process uses the namespace with other options.
pub(crate) async fn register_options(
    manager: &Arc<ConnectionManager>,
    state: &NamespaceState,
    namespace: &Namespace,
) -> Result<()> {
    let Namespace { name, role, level, .. } = namespace;
    let options = format!("role={role:?} level={}", level.name());
    let keys = vec![Bytes::copy_from_slice(state.layout.options.as_bytes())];
    let args = vec![options.clone().into(), OPTIONS_TTL.as_millis().to_string().into()];
    let call = Call { script: Script::Options, keys, args };
    let deadline = Instant::now() + namespace.budget;
    match within(deadline, Effect::Read, call.run(manager, Effect::Read)).await? {
        Value::BulkString(registered) if registered == options.as_bytes() => Ok(()),
        Value::BulkString(registered) => {
            let differences = differences(&String::from_utf8_lossy(&registered), &options);
            let message = format!(
                "another process uses the namespace `{name}` {differences}; give one of the two caches another \
                 name, or end the other process and wait for a minute"
            );
            Err(error(ErrorKind::NamespaceInUse, message))
        }
        Value::ServerError(answer) => Err(server_error(&answer)),
        _ => Err(unexpected_reply()),
    }
}

/// What differs between the options that the server has and ours, in words: the shape is a number that says
/// nothing to a person.
fn differences(registered: &str, ours: &str) -> String {
    let parts = registered.split(' ').zip(ours.split(' ')).filter(|(one, other)| one != other);
    let words = parts.map(|(one, other)| match (one.split_once('='), other.split_once('=')) {
        (Some(("shape", _)), Some(("shape", _))) => "for another value type".to_owned(),
        (Some((name, one)), Some((_, other))) => format!("with {name} {one} (here {other})"),
        _ => "with options that this version does not know".to_owned(),
    });
    words.collect::<Vec<_>>().join(" and ")
}

/// Registers the options again in the background, at most once in [`RENEW_AFTER`].
pub(crate) fn renew_options(
    manager: &Arc<ConnectionManager>,
    state: &Arc<NamespaceState>,
    namespace: &Arc<Namespace>,
) {
    let mut registered_at = state.registered_at.lock();
    if registered_at.is_some_and(|at| at.elapsed() >= RENEW_AFTER) {
        *registered_at = Some(Instant::now());
        let (manager, state, namespace) = (Arc::clone(manager), Arc::clone(state), Arc::clone(namespace));
        tokio::spawn(async move {
            if let Err(error) = register_options(&manager, &state, &namespace).await {
                let cache = &namespace.name;
                tracing::warn!(cache, tier = NAME, %error, "cannot register the options of the namespace again");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_differ_are_told_in_words() {
        let ours = "role=Cache level=Fenced schema=1 shape=00000000feedbeef";
        let told = |registered| differences(registered, ours);
        assert_eq!(told("role=Cache level=Fenced schema=1 shape=00000000deadbeef"), "for another value type");
        let both = told("role=Store level=Fenced schema=2 shape=00000000feedbeef");
        assert_eq!(both, "with role Store (here Cache) and with schema 2 (here 1)");
        assert_eq!(told("x"), "with options that this version does not know");
    }
}

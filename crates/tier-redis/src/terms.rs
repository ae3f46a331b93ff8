//! The terms of a namespace, as processes tell them each other through the server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value;
use terrace_tier::{ErrorKind, Namespace, Result};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect, error},
    link::{Link, within},
    script::{Call, Name},
    send,
    space::NamespaceState,
    tier::RedisTier,
};

/// So long they hold on the server without being registered again.
const HOLD: Duration = Duration::from_secs(60);
/// A tier in use registers them again after this.
const RENEW: Duration = Duration::from_secs(20);

impl RedisTier {
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] where others hold the namespace on other terms.
    pub(crate) async fn register(&self) -> Result<()> {
        register(&self.link, &self.state, &self.space).await
    }

    /// Keeps the terms registered, at most one trip in [`RENEW`] and in nobody's way.
    pub(crate) fn renew_terms(&self) {
        let mut registered = self.state.registered.lock();
        if registered.is_some_and(|at| at.elapsed() >= RENEW) {
            *registered = Some(Instant::now());
            let (link, state, space) = (Arc::clone(&self.link), Arc::clone(&self.state), self.space.clone());
            tokio::spawn(async move {
                if let Err(error) = register(&link, &state, &space).await {
                    tracing::warn!(%error, namespace = space.name, "the terms of the namespace do not hold");
                }
            });
        }
    }
}

async fn register(link: &Arc<Link>, state: &NamespaceState, space: &Namespace) -> Result<()> {
    let Namespace { name, role, level, schema, shape, .. } = space;
    let terms = format!("role={role:?} level={} schema={schema} shape={shape:016x}", level.name());
    let keys = vec![Bytes::copy_from_slice(state.layout.terms.as_bytes())];
    let args = vec![terms.clone().into(), HOLD.as_millis().to_string().into()];
    let call = Call { script: Name::Terms, keys, args };
    let deadline = Instant::now() + space.budget;
    match within(deadline, Effect::Read, send::run(link, &call, Effect::Read)).await? {
        Value::BulkString(held) if held == terms.as_bytes() => Ok(()),
        Value::BulkString(held) => {
            let held = String::from_utf8_lossy(&held);
            let message = format!("the namespace `{name}` is in use on other terms: {held}, now {terms}");
            Err(error(ErrorKind::NamespaceInUse, message))
        }
        Value::ServerError(answer) => Err(fault::of_server(&answer)),
        _ => Err(fault::unreadable()),
    }
}

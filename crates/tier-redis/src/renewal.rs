//! Keeps the epochs of tenants that are in use: an epoch ends 30 days after its last renewal.

use std::sync::Arc;

use redis::Pipeline;

use crate::{
    connection::ConnectionManager,
    error::{Effect, NAME},
    namespace::NamespaceState,
};

/// How long an epoch is kept after a renewal, as in `shared/life.lua`.
const EPOCH_LIFE_MILLIS: u64 = 2_592_000_000;

/// One read in so many that ask for the epoch renews it. A tenant that is read once a day is renewed in time.
const READS_PER_RENEWAL: u32 = 8;

/// Renews the epochs of `state` in the background, for some of the calls.
///
/// Where it fails, or is never done, the epoch ends, and the copies of the tenant are loaded again.
pub(crate) fn renew_epochs(manager: &Arc<ConnectionManager>, state: &Arc<NamespaceState>) {
    if fastrand::u32(..READS_PER_RENEWAL) != 0 {
        return;
    }
    let (manager, [own, shared]) = (Arc::clone(manager), state.layout.epochs());
    tokio::spawn(async move {
        let mut commands = Pipeline::with_capacity(2);
        for epoch in [&own, &shared] {
            commands.cmd("PEXPIRE").arg(&epoch[..]).arg(EPOCH_LIFE_MILLIS);
        }
        if let Err(error) = manager.send_many(&commands, Effect::Read).await {
            let (cache, what) = (
                manager.namespaces.names(),
                "the epochs of a tenant were not renewed; a later read tries again",
            );
            tracing::debug!(%cache, tier = NAME, %error, "{what}");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_give_an_epoch_the_same_life() {
        let script = include_str!("scripts/lua/shared/life.lua");
        assert!(script.contains(&format!("EPOCH_LIFE = {EPOCH_LIFE_MILLIS}\n")));
    }
}

//! Level `Bounded`: a read skips a copy that is not proven within the bound.

#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod faults;
mod joined;
mod proof_sources;
mod relayed;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod unproven;

use terrace_tier::defence::Defence;

/// Runs a scenario that says whether its reads keep the bound. They must keep it with the defence, and
/// must break it without. Only a build with `--cfg terrace_simulation` can leave the defence out.
pub(crate) fn is_missed<F: Future<Output = bool>>(defence: Defence, run: fn() -> F) {
    let keeps_bound = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(run())
    };
    assert!(keeps_bound(), "the bound must hold with {defence:?}");
    #[cfg(terrace_simulation)]
    assert!(
        !terrace_tier::defence::without(defence, keeps_bound),
        "the bound must not hold without {defence:?}"
    );
}

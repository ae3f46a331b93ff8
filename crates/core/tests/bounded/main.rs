//! Level `Bounded`: what cannot be proven within the bound is read from further down.

#![allow(clippy::unwrap_used, reason = "tests; the lint looks for the attribute on each function")]

mod faults;
mod grounds;
mod joined;
mod relayed;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod unproven;

use terrace_tier::defence::Defence;

/// Whether a run reads nothing that is older than the bound: it must, and must not without the defence.
pub(crate) fn is_missed<F: Future<Output = bool>>(defence: Defence, run: fn() -> F) {
    let keeps = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().start_paused(true).build().unwrap().block_on(run())
    };
    assert!(keeps(), "with {defence:?}");
    #[cfg(terrace_simulation)]
    assert!(!terrace_tier::defence::without(defence, keeps), "without {defence:?}");
}

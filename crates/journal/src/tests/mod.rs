//! Tests of the journal without its thread, on a directory that loses what was not synced.

#[cfg(terrace_simulation)]
mod defences;
mod faults;
mod power_loss;
mod program;

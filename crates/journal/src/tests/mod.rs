//! Tests of the journal without its thread, on a directory that loses what was not synced.

mod faults;
mod power_loss;
mod program;

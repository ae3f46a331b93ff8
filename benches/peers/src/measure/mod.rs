//! How sides take turns, and what is made of the figures of their rounds.

pub mod callers;
pub mod costs;
pub mod effort;
pub mod rounds;
pub mod side;
pub mod spread;
pub mod threads;

//! The SQL of the tier (`tables` and `functions` make the schema), and how values travel to and from it.

pub(crate) mod numbers;
pub(crate) mod rows;
pub(crate) mod script;
pub(crate) mod statements;

//! The SQL of the tier (`*.sql` makes the schema), and how values travel to and from it.

pub(crate) mod numbers;
pub(crate) mod rows;
pub(crate) mod statements;

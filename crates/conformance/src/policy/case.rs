//! Running the cases of a policy.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::suite::{Failure, Outcome};

/// One case for policies of the kind `P`, such as `dyn Expiry`.
pub struct Case<P: ?Sized> {
    /// The behaviour that it checks.
    pub name: &'static str,
    pub(crate) run: fn(&P) -> Outcome,
}

impl<P: ?Sized> Case<P> {
    /// Runs the case.
    ///
    /// # Errors
    /// Why the policy did not pass; a panic of the policy is such a failure.
    pub fn run(&self, policy: &P) -> Outcome {
        let panicked =
            || Failure::Broken { at: self.name.to_owned(), what: "the policy panicked".to_owned() };
        catch_unwind(AssertUnwindSafe(|| (self.run)(policy))).unwrap_or_else(|_| Err(panicked()))
    }
}

/// The cases that a policy did not pass, and why.
pub struct Broken {
    /// The names of the cases, in the order of the suite.
    pub cases: Vec<(&'static str, Failure)>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, failure) in &self.cases {
            writeln!(f, "{name}: {failure}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Broken {}

/// Runs `cases` on a policy.
///
/// # Errors
/// The cases that the policy did not pass, and why.
///
/// # Example
/// ```
/// use std::time::Duration;
/// use terrace_conformance::policy;
/// use terrace_core::policy::{Expiry, Lifetime, WriteContext};
///
/// struct Daily;
///
/// impl Expiry for Daily {
///     fn lifetime(&self, context: &WriteContext) -> Lifetime {
///         Lifetime::fresh(context.ttl.unwrap_or(Duration::from_secs(24 * 3600)))
///     }
/// }
///
/// policy::check(policy::EXPIRY, &Daily).unwrap();
/// ```
pub fn check<P: ?Sized>(cases: &[Case<P>], policy: &P) -> Result<(), Broken> {
    let failed = |case: &Case<P>| case.run(policy).err().map(|failure| (case.name, failure));
    let cases: Vec<_> = cases.iter().filter_map(failed).collect();
    if cases.is_empty() { Ok(()) } else { Err(Broken { cases }) }
}

/// Runs the case of this name. Each test that [`policy_suite!`](crate::policy_suite) makes calls this.
///
/// # Errors
/// The case, and why the policy did not pass; also if no case has this name.
pub fn check_one<P: ?Sized>(cases: &[Case<P>], name: &'static str, policy: &P) -> Result<(), Broken> {
    let unknown = || Failure::Broken { at: name.to_owned(), what: "no such case".to_owned() };
    let outcome = cases.iter().find(|case| case.name == name).ok_or_else(unknown);
    outcome.and_then(|case| case.run(policy)).map_err(|failure| Broken { cases: vec![(name, failure)] })
}

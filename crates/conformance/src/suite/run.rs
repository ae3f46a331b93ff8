//! Running one case, or all of them.

use std::fmt;

use futures_util::future::BoxFuture;
use terrace_tier::Role;

use super::{Bench, Failure, Subject};

/// One case of the suite.
#[derive(Clone, Copy)]
pub struct Case {
    /// The behaviour that it checks.
    pub name: &'static str,
    /// The role in which the tier is opened.
    pub role: Role,
    pub(crate) run: for<'a> fn(&'a Bench) -> BoxFuture<'a, super::Outcome>,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.role, self.name)
    }
}

impl Case {
    /// Runs the case on a subject, under its own namespace.
    ///
    /// # Errors
    /// The case, and why it did not pass.
    pub async fn run(&self, subject: Subject) -> Result<(), Broken> {
        let ended = match Bench::open(subject, self.role, self.name) {
            Ok(bench) => (self.run)(&bench).await,
            Err(failure) => Err(failure),
        };
        ended.map_err(|failure| Broken { cases: vec![(*self, failure)] })
    }
}

/// The cases that a tier did not pass, and why.
pub struct Broken {
    /// The cases, in the order of the suite.
    pub cases: Vec<(Case, Failure)>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, failure) in &self.cases {
            writeln!(f, "{case:?}: {failure}")?;
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

/// Runs the case of this name on its own runtime. Each test that [`tier_suite!`](crate::tier_suite)
/// makes calls this.
///
/// # Errors
/// The case, and why it did not pass; an empty list if no case has this name.
pub fn run_case<F: Future<Output = Subject>>(
    make: impl FnOnce() -> F,
    cases: &[Case],
    name: &str,
) -> Result<(), Broken> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let (Ok(runtime), Some(case)) = (runtime, cases.iter().find(|case| case.name == name)) else {
        return Err(Broken { cases: Vec::new() });
    };
    runtime.block_on(async { case.run(make().await).await })
}

/// Runs `cases`, each on a subject that `make` gives.
///
/// # Errors
/// All cases that did not pass, and why.
///
/// # Example
/// ```
/// use terrace_conformance::{Fake, suite};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// suite::run_all(suite::STORE, async || suite::Subject::new(Fake::new())).await.unwrap();
/// # }
/// ```
pub async fn run_all(cases: &[Case], make: impl AsyncFn() -> Subject) -> Result<(), Broken> {
    let mut broken = Broken { cases: Vec::new() };
    for case in cases {
        if let Err(failed) = case.run(make().await).await {
            broken.cases.extend(failed.cases);
        }
    }
    if broken.cases.is_empty() { Ok(()) } else { Err(broken) }
}

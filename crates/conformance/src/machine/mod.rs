//! Random programs over stacks that hold a tier, compared with a plain map step by step.
//!
//! The suite checks that a tier does what the contract says of each operation. The machine checks what
//! users get from it: caches over the tier read like one map. It builds random stacks around the tier,
//! with near tiers and [fakes](crate::Fake) before and behind it, in one process or in several processes
//! that share all tiers. On these stacks it runs random programs: single and batched reads and loads,
//! every kind of write, changed lifetimes, clears, tiers that fail, hang or forget, and restarts of
//! processes. A program that finds a difference is shrunk to a short one.
//!
//! [`machine!`](crate::machine!) makes tests of it; [`Machine`] runs it as a plain function, also over
//! your own near tier. The operations come one after the other; fills and repairs run between them.

mod model;
mod run;
mod shape;
mod stack;
mod step;

use std::fmt;

use proptest::{
    strategy::Strategy,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use proptest_state_machine::Sequential;
use terrace_core::near::Near;
use terrace_tier::{Clock, Role};

use crate::{Fake, PlainNear, suite::Subject};
use model::Model;
use shape::Shape;
use step::Step;

/// A run of random programs; made by [`alone`](Machine::alone) or [`together`](Machine::together).
///
/// # Example
/// ```
/// use terrace_conformance::{Fake, machine::Machine, suite::Subject};
/// use terrace_tier::{Clock, Role};
///
/// async fn mine() -> Subject {
///     let hand = Clock::manual();
///     let fake = Fake::with_clock("mine", hand.clock());
///     Subject::new(fake.clone()).second(fake.another_handle()).manual_clock(&hand)
/// }
/// Machine::together().cases(8).run(Role::Cache, mine).unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct Machine<N = PlainNear> {
    alone: bool,
    cases: u32,
    near: fn() -> N,
}

/// The most steps of a program.
const STEPS: usize = 60;

impl Machine {
    /// One process. Cache tiers before a store also fail, forget keys, and hang in virtual time; no read
    /// may show it.
    pub fn alone() -> Self {
        Self { alone: true, cases: 64, near: PlainNear::new }
    }

    /// Two or three processes over the same tiers: all processes read what one has written. They have
    /// near tiers only where the nearest remote tier is a fake, whose log reports every change within the
    /// write; the log of a real server reports it some time after the write.
    pub fn together() -> Self {
        Self { alone: false, ..Self::alone() }
    }
}

impl<N: Near<u64, u64>> Machine<N> {
    /// How many programs are run; 64 unless set. A program has fewer than 60 steps of one to three trips.
    #[must_use]
    pub fn cases(self, cases: u32) -> Self {
        Self { cases, ..self }
    }

    /// The near tier of each process that has one; a plain map unless set.
    #[must_use]
    pub fn near<M: Near<u64, u64>>(self, near: fn() -> M) -> Machine<M> {
        Machine { alone: self.alone, cases: self.cases, near }
    }

    /// Runs programs over the tiers that `make` gives, as cache tiers or as the store. Each program gets
    /// its own subject and namespace.
    ///
    /// With a [second handle](Subject::second), each process gets one of the two handles. With
    /// [`evict`](Subject::evict), the tier forgets keys on cue. On a [manual clock](Subject::manual_clock)
    /// values expire, tiers hang, and tokio's time is paused: such a tier must answer within this process
    /// and must not depend on other threads. On the host's clock no value expires within a program.
    ///
    /// # Errors
    /// The shortest program found after which the caches do not read like a map.
    pub fn run<F>(self, role: Role, make: impl Fn() -> F) -> Result<(), Counterexample>
    where
        F: Future<Output = Subject>,
    {
        self.run_in(Some(role), make)
    }

    /// Runs programs over the near tier alone.
    ///
    /// # Errors
    /// As [`run`](Machine::run).
    pub fn run_near(self) -> Result<(), Counterexample> {
        let unused = async || {
            let hand = Clock::manual();
            Subject::new(Fake::with_clock("unused", hand.clock())).manual_clock(&hand)
        };
        Self { alone: true, ..self }.run_in(None, unused)
    }

    fn run_in<F>(self, role: Option<Role>, make: impl Fn() -> F) -> Result<(), Counterexample>
    where
        F: Future<Output = Subject>,
    {
        let not_run = |what: String| Counterexample { stack: String::new(), steps: Vec::new(), what };
        let runtime = || run::runtime(false).map_err(|error| not_run(error.to_string()));
        let probed = runtime()?.block_on(async { stack::probe(&make().await) });
        let alone = self.alone;
        let programs = Sequential::new(
            (1..STEPS).into(),
            move || Shape::any(role, alone, probed).prop_map(Model::new),
            run::permits,
            |_: &Model| Step::any(),
            Model::after,
        );
        let config = Config { cases: self.cases, failure_persistence: None, ..Config::default() };
        let found = TestRunner::new(config).run(&programs, |(model, steps, seen)| {
            let fail = |what: String| TestCaseError::fail(what);
            let runtime = run::runtime(probed.timed).map_err(|error| fail(error.to_string()))?;
            let ended = runtime.block_on(async {
                let subject = make().await;
                run::run(model, &steps, seen, subject, self.near).await
            });
            ended.map_err(|failure| fail(failure.to_string()))
        });
        found.map_err(|error| match error {
            TestError::Abort(reason) => not_run(reason.to_string()),
            TestError::Fail(reason, (model, steps, _)) => Counterexample {
                stack: model.shape.to_string(),
                steps: steps.iter().map(|step| format!("{step:?}")).collect(),
                what: reason.to_string(),
            },
        })
    }
}

/// A program after which caches do not read like a map.
pub struct Counterexample {
    stack: String,
    steps: Vec<String>,
    what: String,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n  in {}, after", self.what, self.stack)?;
        self.steps.iter().try_for_each(|step| writeln!(f, "    {step}"))
    }
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Counterexample {}

/// Makes two tests for each role of a tier: one process over it, and several processes that share it.
///
/// The first argument is the path of an `async fn() -> Subject`, as for
/// [`tier_suite!`](crate::tier_suite). The last argument is the number of programs that each test runs:
/// about 200 for a tier in memory, ten for a server. `cache` or `store` between them picks one role.
///
/// ```
/// use terrace_conformance::{Fake, suite::Subject};
///
/// async fn mine() -> Subject {
///     Subject::new(Fake::new())
/// }
/// terrace_conformance::machine!(mine, cases = 10);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! machine {
    ($make:path, cases = $cases:expr) => {
        $crate::machine!($make, cache, cases = $cases);
        $crate::machine!($make, store, cases = $cases);
    };
    ($make:path, cache, cases = $cases:expr) => {
        #[test]
        fn a_cache_over_it_reads_like_a_map() -> ::std::result::Result<(), $crate::machine::Counterexample> {
            $crate::machine::Machine::alone().cases($cases).run($crate::machine::CACHE, $make)
        }

        #[test]
        fn caches_that_share_it_read_like_one_map()
        -> ::std::result::Result<(), $crate::machine::Counterexample> {
            $crate::machine::Machine::together().cases($cases).run($crate::machine::CACHE, $make)
        }
    };
    ($make:path, store, cases = $cases:expr) => {
        #[test]
        fn a_cache_of_its_records_reads_like_a_map()
        -> ::std::result::Result<(), $crate::machine::Counterexample> {
            $crate::machine::Machine::alone().cases($cases).run($crate::machine::STORE, $make)
        }

        #[test]
        fn caches_of_its_records_read_like_one_map()
        -> ::std::result::Result<(), $crate::machine::Counterexample> {
            $crate::machine::Machine::together().cases($cases).run($crate::machine::STORE, $make)
        }
    };
}

#[doc(hidden)]
pub const CACHE: Role = Role::Cache;
#[doc(hidden)]
pub const STORE: Role = Role::Store;

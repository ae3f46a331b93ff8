//! The list of all cases, one list for each kind of policy.

use terrace_core::policy::{Admission, Expiry, Freshness, Stampede, WritePolicy};

use super::{Case, admission, expiry, freshness, stampede, write};

/// Passes the cases of a kind to another macro of this crate.
#[doc(hidden)]
#[macro_export]
macro_rules! __policy_cases {
    (expiry, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            expiry::any_time_is_answered,
            expiry::a_life_of_its_own_is_not_exceeded,
            expiry::chance_does_not_decide_whether_an_entry_is_kept,
            expiry::there_is_no_chance_but_the_one_given,
            expiry::an_absence_is_never_stale,
            expiry::a_cap_never_extends,
            expiry::a_stale_time_of_its_own_is_used,
            expiry::an_idle_life_is_the_fresh_time,
        }
    };
    (freshness, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            freshness::any_hit_is_answered,
            freshness::the_same_hit_is_answered_alike,
            freshness::what_is_served_was_served_when_it_was_younger,
            freshness::what_an_error_serves_it_served_when_it_was_younger,
            freshness::only_what_can_be_renewed_is_refreshed,
            freshness::the_same_entry_has_one_lead,
        }
    };
    (admission, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            admission::any_value_is_answered,
            admission::what_was_admitted_is_admitted_again,
        }
    };
    (write, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            write::the_plan_is_always_the_same,
            write::the_plan_keeps_the_value_somewhere,
        }
    };
    (stampede, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            stampede::the_answer_is_always_the_same,
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __policy_table {
    ((), $($group:ident::$case:ident,)*) => {
        &[$(Case { name: stringify!($case), run: $group::$case },)*]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __policy_tests {
    (($make:ident, $list:ident), $($group:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() -> ::std::result::Result<(), $crate::policy::Broken> {
                $crate::policy::check_one($crate::policy::$list, stringify!($case), &super::$make())
            }
        )*
    };
}

/// Makes one test for each case of one kind of policy: `expiry`, `freshness`, `admission`, `write` or
/// `stampede`. The second argument is a function that returns the policy. The tests are in a module with
/// the name of that function.
///
/// ```
/// use terrace_core::policy::{Admission, AdmitContext};
///
/// struct NotInRedis;
///
/// impl Admission for NotInRedis {
///     fn admits(&self, context: &AdmitContext<'_>) -> bool {
///         context.tier != "redis"
///     }
/// }
///
/// fn not_in_redis() -> NotInRedis {
///     NotInRedis
/// }
/// terrace_conformance::policy_suite!(admission, not_in_redis);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! policy_suite {
    (expiry, $make:ident) => {
        mod $make {
            $crate::__policy_cases!(expiry, __policy_tests($make, EXPIRY));
        }
    };
    (freshness, $make:ident) => {
        mod $make {
            $crate::__policy_cases!(freshness, __policy_tests($make, FRESHNESS));
        }
    };
    (admission, $make:ident) => {
        mod $make {
            $crate::__policy_cases!(admission, __policy_tests($make, ADMISSION));
        }
    };
    (write, $make:ident) => {
        mod $make {
            $crate::__policy_cases!(write, __policy_tests($make, WRITE));
        }
    };
    (stampede, $make:ident) => {
        mod $make {
            $crate::__policy_cases!(stampede, __policy_tests($make, STAMPEDE));
        }
    };
}

/// The cases of an expiry policy.
pub const EXPIRY: &[Case<dyn Expiry>] = crate::__policy_cases!(expiry, __policy_table());

/// The cases of a freshness policy.
pub const FRESHNESS: &[Case<dyn Freshness>] = crate::__policy_cases!(freshness, __policy_table());

/// The cases of an admission policy.
pub const ADMISSION: &[Case<dyn Admission>] = crate::__policy_cases!(admission, __policy_table());

/// The cases of a write policy.
pub const WRITE: &[Case<dyn WritePolicy>] = crate::__policy_cases!(write, __policy_table());

/// The cases of a stampede policy.
pub const STAMPEDE: &[Case<dyn Stampede>] = crate::__policy_cases!(stampede, __policy_table());

//! The fake passes the suite and the machine.

use std::time::Duration;

use terrace_conformance::{Fake, suite::Subject};
use terrace_tier::Clock;

async fn fake() -> Subject {
    let fake = Fake::new();
    let evict = fake.clone();
    Subject::new(fake.clone()).second(fake.another_handle()).notified_within(Fake::CLEAR_LAG).evict(
        move |namespace, key| {
            evict.evict(&namespace.name, &key.bytes);
            Box::pin(async {})
        },
    )
}

terrace_conformance::tier_suite!(fake);
terrace_conformance::tier_suite!(fake, evict);
terrace_conformance::tier_suite!(fake, processes);
terrace_conformance::tier_suite!(fake, lease_waiter);
terrace_conformance::tier_suite!(fake, front);

async fn logged() -> Subject {
    let fake = Fake::new().with_log();
    let (beating, losing) = (fake.clone(), fake.clone());
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(5)).await;
            beating.log().beat();
        }
    });
    Subject::new(fake.clone()).second(fake.another_handle()).notified_within(Fake::CLEAR_LAG).lose_log(
        move |_| {
            losing.log().lose();
            Box::pin(async {})
        },
    )
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, store_log);
terrace_conformance::tier_suite!(logged, publish);

/// On a manual clock: no case waits in real time, and the random histories contain many expiries.
mod virtual_time {
    use super::*;

    async fn fake() -> Subject {
        let hand = Clock::manual();
        let fake = Fake::with_clock("fake", hand.clock());
        let evict = fake.clone();
        let subject = Subject::new(fake.clone())
            .second(fake.another_handle())
            .notified_within(Fake::CLEAR_LAG)
            .manual_clock(&hand);
        subject.evict(move |namespace, key| {
            evict.evict(&namespace.name, &key.bytes);
            Box::pin(async {})
        })
    }

    terrace_conformance::tier_suite!(fake);
    terrace_conformance::tier_suite!(fake, evict);
    terrace_conformance::machine!(fake, cases = 50);
}

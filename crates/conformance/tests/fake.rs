//! The fake passes the suite.

use terrace_conformance::{Fake, suite::Subject};
use terrace_core::Clock;

async fn fake() -> Subject {
    let fake = Fake::new();
    let evict = fake.clone();
    Subject::new(fake.clone()).second(fake.another_handle()).evict(move |space, key| {
        evict.evict(&space.namespace, &key.bytes);
        Box::pin(async {})
    })
}

terrace_conformance::tier_suite!(fake);
terrace_conformance::tier_suite!(fake, evict);
terrace_conformance::tier_suite!(fake, processes);

/// On a clock turned by hand: nothing waits, and the random histories are full of expiries.
mod virtual_time {
    use super::*;

    async fn fake() -> Subject {
        let hand = Clock::manual();
        let fake = Fake::with_clock("fake", hand.clock());
        let evict = fake.clone();
        let subject = Subject::new(fake.clone()).second(fake.another_handle()).manual_clock(&hand);
        subject.evict(move |space, key| {
            evict.evict(&space.namespace, &key.bytes);
            Box::pin(async {})
        })
    }

    terrace_conformance::tier_suite!(fake);
    terrace_conformance::tier_suite!(fake, evict);
}

//! The fake passes the suite.

use terrace_conformance::{Fake, suite::Subject};

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

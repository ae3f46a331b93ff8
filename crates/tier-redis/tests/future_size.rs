//! A read is one allocation for its future: it stays within what allocators hand out fastest.

use std::{sync::Arc, time::Duration};

use terrace_tier::{Backend, Level, Namespace, Op, Role, Tier, TierKey, Token};
use terrace_tier_redis::Redis;

/// glibc keeps freed pieces of up to so many bytes at hand for each thread.
const AT_HAND: usize = 1032;

#[tokio::test]
async fn the_future_of_a_read_stays_small() {
    let redis = Redis::new("redis://127.0.0.1:1").unwrap();
    let space =
        Namespace::new("sizes".into(), Role::Cache).with_type(1, 1).with_budget(Duration::from_millis(50));
    let tier: Arc<dyn Tier> = redis.open(&space).unwrap();
    let key = TierKey { bytes: "k".into(), digest: [0; 16] };
    let lease = Op::Lease {
        token: Token::from_u64(1),
        ttl: Duration::from_secs(1),
        over: None,
        replaces: Token::NONE,
    };
    for op in [Op::Get, lease] {
        let bytes = size_of_val(&*tier.apply(&key, op));
        assert!(bytes <= AT_HAND, "{bytes} bytes");
    }
}

//! The future of a read is one allocation, small enough for the allocator's fast path.

use std::{sync::Arc, time::Duration};

use terrace_tier::{Backend, Namespace, Op, Role, Tier, TierKey, Token};
use terrace_tier_redis::Redis;

/// The largest allocation in bytes that glibc serves from the cache of a thread.
const THREAD_CACHE_BYTES: usize = 1032;

#[tokio::test]
async fn the_future_of_a_read_stays_small() {
    let redis = Redis::new("redis://127.0.0.1:1").unwrap();
    let namespace =
        Namespace::new("sizes", Role::Cache).with_type(1, 1).with_budget(Duration::from_millis(50));
    let tier: Arc<dyn Tier> = redis.open(&namespace).unwrap();
    let key = TierKey { bytes: "k".into(), digest: [0; 16] };
    let lease = Op::Lease {
        token: Token::from_u64(1),
        ttl: Duration::from_secs(1),
        over: None,
        replaces: Token::NONE,
    };
    for op in [Op::Get, lease] {
        let bytes = size_of_val(&*tier.apply(&key, op));
        assert!(bytes <= THREAD_CACHE_BYTES, "{bytes} bytes");
    }
}

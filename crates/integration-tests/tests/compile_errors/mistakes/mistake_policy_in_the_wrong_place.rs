//~ is not a freshness policy
//~ is not a stampede policy
//~ is not a write policy
//~ is not an admission policy
use terrace::{Cache, Lease, Result, SizeLimit, Ttl, WriteAround};

pub fn build() -> Result<Cache<u64, String>> {
    let builder = Cache::builder("names").freshness(Lease).stampede(Ttl::secs(1));
    builder.write(SizeLimit::in_tier("redis", 1)).admit(WriteAround).build()
}

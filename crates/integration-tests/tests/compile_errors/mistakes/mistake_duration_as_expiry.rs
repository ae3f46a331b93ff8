//~ is not an expiry policy
//~ `Ttl::secs(60)` or `Ttl::of(duration)`
pub fn build() -> terrace::Result<terrace::Cache<u64, String>> {
    terrace::Cache::builder("names").expire(std::time::Duration::from_secs(60)).build()
}

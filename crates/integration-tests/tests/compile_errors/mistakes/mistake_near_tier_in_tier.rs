//~ is not a shared tier
//~ a near tier goes into `.near(..)`
pub fn build() -> terrace::Result<terrace::Cache<u64, String>> {
    terrace::Cache::builder("names").tier(terrace::Memory::<u64, String>::entries(10)).build()
}

//~ a near tier goes into `.near(..)`
pub fn build() -> terrace::Result<terrace::Cache<u64, String>> {
    terrace::Cache::builder("names").store(terrace::Memory::<u64, String>::entries(10)).build()
}

//~ a constructor that gives a `Result`, as `Redis::new(url)`, needs a `?`
pub fn build() -> terrace::Result<terrace::Cache<u64, String>> {
    terrace::Cache::builder("names").tier(terrace::Sqlite::file("a.db")).build()
}

//~ `&&str` is no key of a cache whose keys are `String`
//~ a `&str` for a `String`
pub async fn read(names: &terrace::Cache<String, u64>) -> terrace::Result<()> {
    names.get(&"ada").await?;
    Ok(())
}

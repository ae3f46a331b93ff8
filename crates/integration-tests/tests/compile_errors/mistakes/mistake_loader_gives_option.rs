//~ for a loader of an Option or an Item: get_or_load_with
pub async fn read(names: &terrace::Cache<u64, String>) -> terrace::Result<()> {
    names.get_or_load(&1, || async { Ok::<_, std::io::Error>(None::<String>) }).await?;
    Ok(())
}

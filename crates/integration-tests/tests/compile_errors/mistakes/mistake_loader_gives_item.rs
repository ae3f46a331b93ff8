//~ for a loader of an Option or an Item: get_or_load_with
pub async fn read(names: &terrace::Cache<u64, String>) -> terrace::Result<()> {
    let load = || async { Ok::<_, std::io::Error>(terrace::Item::new("Ada".to_owned())) };
    names.get_or_load(&1, load).await?;
    Ok(())
}

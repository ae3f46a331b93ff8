//~ a load outlives its caller: clone what it uses into it, as an Arc
pub async fn read(names: &terrace::Cache<u64, String>, id: u64) -> terrace::Result<()> {
    let title = format!("user {id}");
    names.get_or_load(&id, || async { Ok::<_, std::io::Error>(title.clone()) }).await?;
    Ok(())
}

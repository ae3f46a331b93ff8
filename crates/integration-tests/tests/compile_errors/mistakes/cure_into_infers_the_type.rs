use std::time::Duration;
use terrace::{Cache, Item, Result, Ttl};

pub async fn write(names: &Cache<u64, String>) -> Result<()> {
    let version = names.put(&1, "Ada".into()).await?;
    names.put_if_absent(&1, "Ada".into()).await?;
    names.replace(&1, version, "Ada".into()).await?;
    names.put_many([(1, "Ada".into())]).await;
    let item = || Item::new("Ada".into()).ttl(Duration::from_secs(5));
    names.put_item(&1, item()).await?;
    names.put_item_if_absent(&1, item()).await?;
    names.replace_item(&1, version, item()).await?;
    names.put_items([(1, item())]).await;
    Ok(())
}

pub async fn read(names: &Cache<u64, String>) -> Result<()> {
    names.get_or_load(&1, || async { Ok::<_, std::io::Error>("Ada".into()) }).await?;
    names.get_or_load(&1, || async { Ok::<_, std::io::Error>("a b".split(' ').collect()) }).await?;
    names.get_or_load_with(&1, |_| async { Ok::<_, std::io::Error>(Some("Ada".to_owned())) }).await?;
    Ok(())
}

pub fn build() -> Result<Cache<u64, String>> {
    Cache::builder("names").expire(Ttl::of(Duration::from_secs(60))).build()
}

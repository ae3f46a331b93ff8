//! The builder infers its types from the type of the cache that is built.

use terrace::{Cache, Memory, NoNear, Quick, near::Near};

#[tokio::test]
async fn the_near_tier_is_memory_unless_the_type_names_another() -> terrace::Result<()> {
    let memory: Cache<u64, String> = Cache::builder("users").near(Memory::entries(10)).build()?;
    let quick: Cache<u64, String, Quick<u64, String>> =
        Cache::builder("users").near(Quick::entries(10)).build()?;
    memory.put(&1, "Ada".to_owned()).await?;
    quick.put(&1, "Ada".to_owned()).await?;
    assert_eq!(memory.get(&1).await?.unwrap(), "Ada".to_owned());
    assert_eq!(quick.get(&1).await?.unwrap(), "Ada".to_owned());
    Ok(())
}

#[tokio::test]
async fn types_may_be_named_at_the_start_too() -> terrace::Result<()> {
    let users = Cache::<u64, String>::builder("users").near(Memory::entries(10)).build()?;
    users.put(&1, "Ada".to_owned()).await?;
    assert!(users.contains(&1).await?);
    Ok(())
}

#[tokio::test]
async fn without_a_near_tier_it_is_off() -> terrace::Result<()> {
    async fn forgets<N: Near<u64, String>>(cache: Cache<u64, String, N>) -> terrace::Result<bool> {
        cache.put(&1, "Ada".to_owned()).await?;
        Ok(!cache.contains(&1).await?)
    }
    let memory: Cache<u64, String> = Cache::builder("users").build()?;
    let none: Cache<u64, String, NoNear> = Cache::builder("users").build()?;
    let quick: Cache<u64, String, Quick<u64, String>> = Cache::builder("users").build()?;
    assert!(forgets(memory).await?);
    assert!(forgets(none).await?);
    assert!(forgets(quick).await?);
    Ok(())
}

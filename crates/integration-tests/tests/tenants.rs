//! Tenants share one near tier, and do not see each other's entries in it.

use terrace::{Builder, Memory, Quick, Result, near::Near};

async fn a_clear_of_one_tenant_leaves_the_others<N: Near<String, u64>>(near: N) -> Result<()> {
    let tenants = Builder::new("users".to_owned(), near).build_per_tenant()?;
    let (first, second) = (tenants.tenant("first")?, tenants.tenant("second")?);
    first.put("ada", 1).await?;
    second.put("ada", 2).await?;
    assert_eq!(first.get("ada").await?.as_deref(), Some(&1));
    first.clear().await?;
    assert!(first.get("ada").await?.is_none());
    assert_eq!(second.get("ada").await?.as_deref(), Some(&2));
    Ok(())
}

#[tokio::test]
async fn a_clear_of_one_tenant_leaves_the_others_on_memory() -> Result<()> {
    a_clear_of_one_tenant_leaves_the_others(Memory::entries(100)).await
}

#[tokio::test]
async fn a_clear_of_one_tenant_leaves_the_others_on_quick() -> Result<()> {
    a_clear_of_one_tenant_leaves_the_others(Quick::entries(100)).await
}

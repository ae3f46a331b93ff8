//! The stack is chosen by a file and by variables, and the application's code stays as it is.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin stacks_by_configuration
//! ```

use std::convert::Infallible;

use terrace::{
    Cache, Result,
    config::{Config, Stack},
};

const FILE: &str = r#"
[stacks.development]
memory = { entries = 1000 }

[stacks.desktop]
memory = { entries = 1000 }
sqlite = { path = ":memory:" }

[stacks.production]
ttl_seconds = 60
jitter = 0.1
memory = { entries = 100000 }
redis = { url = "rediss://cache.invalid", budget_ms = 20 }
postgres = { host = "db.invalid", user = "shop" }
"#;

/// The application. It knows the cache, and no tier.
async fn application(pages: &Cache<String, String>) -> Result<()> {
    let load = || async { Ok::<_, Infallible>("<h1>Terraces</h1>".to_owned()) };
    let page = pages.get_or_load("/", load).await?;
    println!("    {} from {:?}", *page, page.served().from);
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    for name in ["development", "desktop", "production"] {
        let stack = Stack::new(&Config::from_toml_named(FILE, Some(name))?)?;
        let pages: Cache<String, String> = stack.builder("pages").build()?;
        let tiers: Vec<String> = pages.stats().tiers.into_iter().map(|tier| tier.name).collect();
        println!("{name}: {}", tiers.join(" -> "));
        // In production the servers are away here: the cache works without them.
        application(&pages).await?;
        application(&pages).await?;
        if let Err(refused) = stack.records::<u64, String>("users").and_then(terrace::Builder::build) {
            println!("    records: {refused}");
        }
    }
    Ok(())
}

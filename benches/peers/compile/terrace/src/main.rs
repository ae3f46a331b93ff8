//! An application that reads and writes users through a near tier, Redis and Postgres.

use serde::{Deserialize, Serialize};
use terrace::{Cache, Memory, Postgres, Redis, Ttl};

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

#[tokio::main]
async fn main() -> terrace::Result<()> {
    let users: Cache<u64, User> = Cache::builder("users")
        .near(Memory::entries(10_000))
        .tier(Redis::new("localhost:6379")?)
        .store(Postgres::new("postgres://localhost/users")?)
        .expire(Ttl::secs(60))
        .build()?;
    users.put(&7, User { id: 7, name: "Ada Lovelace".to_owned() }).await?;
    if let Some(user) = users.get(&7).await? {
        println!("{}: {}", user.id, user.name);
    }
    users.remove(&7).await?;
    Ok(())
}

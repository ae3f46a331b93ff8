//! The application of `compile-terrace` on the raw engine and clients.

use std::{error::Error, sync::Arc, time::Duration};

use moka::future::Cache;
use redis::{AsyncCommands, aio::ConnectionManager};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;

const TTL_SECS: u64 = 60;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct User {
    id: u64,
    name: String,
}

struct Users {
    near: Cache<u64, Arc<User>>,
    redis: ConnectionManager,
    records: PgPool,
}

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

impl Users {
    async fn get(&self, id: u64) -> Result<Option<Arc<User>>> {
        if let Some(user) = self.near.get(&id).await {
            return Ok(Some(user));
        }
        let mut redis = self.redis.clone();
        let copy: Option<Vec<u8>> = redis.get(id).await?;
        let user = match copy {
            Some(bytes) => postcard::from_bytes(&bytes)?,
            None => {
                let select =
                    sqlx::query_scalar("SELECT body FROM users WHERE id = $1").bind(id.cast_signed());
                let Some(bytes): Option<Vec<u8>> = select.fetch_optional(&self.records).await? else {
                    return Ok(None);
                };
                redis.set_ex::<_, _, ()>(id, &bytes, TTL_SECS).await?;
                postcard::from_bytes(&bytes)?
            }
        };
        let user = Arc::new(user);
        self.near.insert(id, Arc::clone(&user)).await;
        Ok(Some(user))
    }

    async fn put(&self, user: User) -> Result<()> {
        let (id, bytes) = (user.id, postcard::to_stdvec(&user)?);
        let upsert = "INSERT INTO users VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
        sqlx::query(upsert).bind(id.cast_signed()).bind(&bytes).execute(&self.records).await?;
        self.redis.clone().set_ex::<_, _, ()>(id, bytes, TTL_SECS).await?;
        self.near.insert(id, Arc::new(user)).await;
        Ok(())
    }

    async fn remove(&self, id: u64) -> Result<()> {
        sqlx::query("DELETE FROM users WHERE id = $1").bind(id.cast_signed()).execute(&self.records).await?;
        self.redis.clone().del::<_, ()>(id).await?;
        self.near.invalidate(&id).await;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let users = Users {
        near: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(TTL_SECS)).build(),
        redis: redis::Client::open("redis://localhost:6379")?.get_connection_manager().await?,
        records: PgPool::connect("postgres://localhost/users").await?,
    };
    users.put(User { id: 7, name: "Ada Lovelace".to_owned() }).await?;
    if let Some(user) = users.get(7).await? {
        println!("{}: {}", user.id, user.name);
    }
    users.remove(7).await
}

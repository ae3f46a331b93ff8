//! Sessions as records: two requests that change one session at once lose nothing, and a session ends when
//! nobody has used it for a while.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin sessions
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};
use terrace::{Cache, ErrorKind, Item, Memory, Result, Sqlite};
use tokio::time::sleep;

/// A session ends after this time without a request. Real sessions have 30 minutes.
const IDLE_LIFE: Duration = Duration::from_secs(2);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Session {
    cart: Vec<u32>,
}

struct Sessions {
    records: Cache<String, Session>,
}

impl Sessions {
    fn item(session: Session) -> Item<Session> {
        Item::new(session).ttl(IDLE_LIFE)
    }

    /// Begins a session. `false` means that the name is taken.
    async fn begin(&self, id: &str) -> Result<bool> {
        self.records.put_item_if_absent(id, Self::item(Session::default())).await
    }

    /// Reads a session. The first read of each tenth of the idle life renews it, and the others cost no trip.
    async fn read(&self, id: &str) -> Result<Option<Session>> {
        let Some(session) = self.records.get(id).await? else { return Ok(None) };
        self.records.touch(id, IDLE_LIFE).await?;
        Ok(Some(Session::clone(&session)))
    }

    /// Changes a session, and tries again if another request has changed it in between.
    async fn change(&self, id: &str, change: impl Fn(&mut Session)) -> Result<bool> {
        for _ in 0..100 {
            let Some(seen) = self.records.get(id).await? else { return Ok(false) };
            let mut session = Session::clone(&seen);
            change(&mut session);
            if self.records.replace_item(id, seen.served().version, Self::item(session)).await? {
                return Ok(true);
            }
        }
        Err(terrace::Error::new(ErrorKind::Busy, "others have changed the session a hundred times"))
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::temp_dir().join(format!("terrace-sessions-{}.db", std::process::id()));
    let records =
        Cache::builder("sessions").near(Memory::entries(10_000)).store(Sqlite::file(&file)?).build()?;
    records.ready().await?;
    let sessions = std::sync::Arc::new(Sessions { records });
    println!("a new session: {}", sessions.begin("ada").await?);
    println!("the same once more: {}", sessions.begin("ada").await?);

    let requests: Vec<_> = (0..20)
        .map(|product| {
            let sessions = std::sync::Arc::clone(&sessions);
            tokio::spawn(async move { sessions.change("ada", |session| session.cart.push(product)).await })
        })
        .collect();
    for request in requests {
        request.await.map_err(terrace::Error::load)??;
    }
    let kept = sessions.read("ada").await?.map_or(0, |session| session.cart.len());
    println!("20 requests put a product into the cart at once: {kept} are there");

    for _ in 0..6 {
        sleep(IDLE_LIFE / 2).await;
        sessions.read("ada").await?;
    }
    println!(
        "in use for three lives: {}",
        if sessions.read("ada").await?.is_some() { "there" } else { "gone" }
    );
    sleep(IDLE_LIFE + Duration::from_millis(200)).await;
    println!("unused for one life: {}", if sessions.read("ada").await?.is_some() { "there" } else { "gone" });
    sessions.records.close().await;
    let _absent = std::fs::remove_file(file);
    Ok(())
}

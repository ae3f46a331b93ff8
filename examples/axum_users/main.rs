//! A web handler over a table of your own: `public.users`, read through memory and Redis.
//!
//! ```sh
//! cargo run --release --example axum_users              # drives itself, then ends
//! cargo run --release --example axum_users -- --serve   # and stays: curl localhost:3000/users/7
//! ```
//!
//! The table stays the truth: there is no store, and a read that no tier can answer asks it. Whoever
//! changes it, this program or psql, its old copies are dropped everywhere: a trigger says so in the
//! outbox. While Postgres is away, what was read before is served stale.
//!
//! The servers are those of `REDIS_URL` and `DATABASE_URL` if both are set, in a database that has no
//! table `public.users`; else private ones, which the tour also kills.

mod servers;
mod tour;

use std::{error::Error, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use servers::Servers;
use sqlx::PgPool;
use terrace::{Cache, Memory, Postgres, Redis, Served, Source, Ttl};

/// How long a copy is fresh: short, so that the tour sees it end. The log drops it much earlier.
const FRESH: Duration = Duration::from_secs(2);
/// For so long after that it is served where Postgres fails.
const STALE_IF_ERROR: Duration = Duration::from_secs(600);

#[derive(Serialize, Deserialize)]
struct User {
    id: i64,
    name: String,
}

#[derive(Clone)]
struct App {
    users: Cache<i64, User>,
    pool: PgPool,
    postgres: Postgres,
}

impl App {
    async fn start(servers: &Servers) -> Result<Self, Box<dyn Error>> {
        let (pool, postgres) = (servers.pool().await?, Postgres::new(&servers.database())?);
        let table = pool.clone();
        let users = Cache::builder("users")
            .near(Memory::entries(10_000))
            .tier(Redis::builder(servers.redis()).prefix(servers.prefix()).build()?)
            .loader(move |id| find(table.clone(), id))
            .watch_origin(&postgres)
            .expire(Ttl::of(FRESH).stale_if_error(STALE_IF_ERROR))
            .build()?;
        users.ready().await?;
        // Once for each table, in a migration: from now on its changes are told, whoever makes them.
        sqlx::query("SELECT terrace.watch('public.users', 'users', '{id}')").execute(&pool).await?;
        Ok(Self { users, pool, postgres })
    }

    fn routes(self) -> Router {
        Router::new().route("/users/{id}", get(show).put(rename)).with_state(self)
    }
}

/// The origin.
async fn find(pool: PgPool, id: i64) -> sqlx::Result<Option<User>> {
    let name = sqlx::query_scalar("SELECT name FROM public.users WHERE id = $1").bind(id);
    Ok(name.fetch_optional(&pool).await?.map(|name| User { id, name }))
}

/// `GET /users/7`: all that the handler knows of the cache is one call.
async fn show(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Failure> {
    let Some(user) = app.users.get(&id).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    Ok(([("served-from", place(&user.served()))], Json(user)).into_response())
}

/// `PUT /users/7`: the change and the word of it commit together.
async fn rename(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(name): Json<String>,
) -> Result<StatusCode, Failure> {
    let mut transaction = app.pool.begin().await?;
    let update = sqlx::query("UPDATE public.users SET name = $2 WHERE id = $1").bind(id).bind(name);
    if update.execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(StatusCode::NOT_FOUND);
    }
    let pending = app.postgres.invalidate_in(&mut transaction, &app.users, &id).await?;
    transaction.commit().await?;
    // For speed: the copies go now. What cannot be dropped at once, the log drops.
    if let Err(error) = pending.committed().await {
        eprintln!("left to the log: {error}");
    }
    Ok(StatusCode::NO_CONTENT)
}

fn place(served: &Served) -> String {
    let from = match &served.from {
        Source::Near => "near".to_owned(),
        Source::Loader => "Postgres".to_owned(),
        Source::Tier(name) | Source::Store(name) => name.to_string(),
        _ => "elsewhere".to_owned(),
    };
    if served.stale { format!("{from}, stale") } else { from }
}

/// What a request failed with: nothing of it is the client's business.
struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        StatusCode::SERVICE_UNAVAILABLE.into_response()
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let serve = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--serve") => true,
        Some(_) => return Err("usage: axum_users [--serve]".into()),
    };
    run(serve).await
}

async fn run(serve: bool) -> Result<(), Box<dyn Error>> {
    let servers = Servers::find().await?;
    let outcome = drive(&servers, serve).await;
    let tidied = servers.tidy().await;
    outcome.and(tidied)
}

async fn drive(servers: &Servers, serve: bool) -> Result<(), Box<dyn Error>> {
    let app = App::start(servers).await?;
    let listener =
        tokio::net::TcpListener::bind(if serve { "127.0.0.1:3000" } else { "127.0.0.1:0" }).await?;
    let address = listener.local_addr()?;
    let routes = app.clone().routes();
    let server = tokio::spawn(async move { axum::serve(listener, routes).await });

    tour::run(address, &app.pool, servers).await?;
    if serve {
        println!("\nUntil Ctrl-C, to read and to rename:");
        println!("  curl -i {address}/users/7");
        println!("  curl -X PUT -H 'content-type: application/json' -d '\"Edsger\"' {address}/users/7");
        tokio::signal::ctrl_c().await?;
    }
    server.abort();
    app.users.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_tour_sees_what_it_says() {
        super::run(false).await.expect("a tour");
    }
}

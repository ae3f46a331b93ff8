//! A web handler over a table of your own: `public.users`, read through memory and Redis.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin axum_users              # sends requests to itself, then ends
//! cargo run --release -p terrace-cookbook --bin axum_users -- --serve   # stays: curl localhost:3000/users/7
//! ```
//!
//! The table remains the source of truth: there is no store, and a read that no tier can answer goes
//! to the table. When this program or psql changes a row, a trigger writes the change to the outbox,
//! and every process drops its old copies. While Postgres is down, values that were read before are
//! served stale.
//!
//! If `REDIS_URL` and `DATABASE_URL` are both set, the example uses those servers; the database must
//! not have a table `public.users`. Otherwise it starts private servers, and the tour also kills them.

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
use terrace::{Cache, ErrorKind, Memory, Postgres, Redis, Served, Source, Ttl};

/// How long a copy is fresh: short, so that the tour sees the end of it. After a change, the log drops
/// the copy much earlier.
const FRESH: Duration = Duration::from_secs(2);
/// How long after that a copy is served if Postgres fails.
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
        // An application does this once for each table, in a migration. From now on a trigger reports
        // every change of the table, by any program.
        sqlx::query("SELECT terrace.watch('public.users', 'users', '{id}')").execute(&pool).await?;
        Ok(Self { users, pool, postgres })
    }

    fn routes(self) -> Router {
        Router::new().route("/users/{id}", get(show).put(rename)).with_state(self)
    }
}

/// Reads a user from the table, which is the origin.
async fn find(pool: PgPool, id: i64) -> sqlx::Result<Option<User>> {
    let name = sqlx::query_scalar("SELECT name FROM public.users WHERE id = $1").bind(id);
    Ok(name.fetch_optional(&pool).await?.map(|name| User { id, name }))
}

/// `GET /users/7`: the handler uses the cache in a single call.
async fn show(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Failure> {
    let Some(user) = app.users.get(&id).await? else {
        return Ok(StatusCode::NOT_FOUND.into_response());
    };
    Ok(([("served-from", source(&user.served()))], Json(user)).into_response())
}

/// `PUT /users/7`: the change of the row and its invalidation commit together.
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
    // For speed, this drops the copies now. The log drops the copies that cannot be dropped at once.
    if let Err(error) = pending.committed().await {
        eprintln!("some copies are left to the log: {error}");
    }
    Ok(StatusCode::NO_CONTENT)
}

fn source(served: &Served) -> String {
    let from = match &served.from {
        Source::Near => "near".to_owned(),
        Source::Loader => "Postgres".to_owned(),
        Source::Tier(name) | Source::Store(name) => name.to_string(),
        _ => "elsewhere".to_owned(),
    };
    if served.stale { format!("{from}, stale") } else { from }
}

/// The error of a request. The client sees a status, and the log the rest.
struct Failure(Box<dyn Error + Send + Sync>);

impl<E: Into<Box<dyn Error + Send + Sync>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        let kind = self.0.downcast_ref::<terrace::Error>().map(terrace::Error::kind);
        match kind {
            Some(ErrorKind::Busy) => {
                (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "1")]).into_response()
            }
            Some(ErrorKind::Timeout) => StatusCode::GATEWAY_TIMEOUT.into_response(),
            Some(ErrorKind::Key) => StatusCode::BAD_REQUEST.into_response(),
            // A loader's error is one of the table; another error is one of the update.
            _ => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        }
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

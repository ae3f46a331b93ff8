//! Metrics: the counters and latencies of a cache in the text format of Prometheus, and its health as JSON.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin metrics          # prints both
//! cargo run --release -p terrace-cookbook --bin metrics -- 9100  # serves them on a port of this machine
//! ```

use std::{convert::Infallible, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use terrace::{
    Cache, Memory, Result, Sqlite, Ttl,
    telemetry::{Status, Telemetry},
};

/// The endpoints that a monitoring system and a load balancer ask.
fn endpoints(telemetry: Telemetry) -> Router {
    let scraped = telemetry.clone();
    let metrics =
        move || async move { ([("content-type", "text/plain; version=0.0.4")], scraped.prometheus()) };
    let health = move || async move {
        let health = telemetry.health();
        let is_down = health.status == Status::Down;
        let code = if is_down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        (code, health.to_json())
    };
    Router::new().route("/metrics", get(metrics)).route("/health", get(health))
}

/// A page that takes five milliseconds to make.
async fn read(pages: &Cache<u64, String>, number: u64) -> Result<()> {
    let load = || async move {
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok::<_, Infallible>(format!("page {number}"))
    };
    pages.get_or_load(&number, load).await.map(drop)
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let pages = Cache::builder("pages")
        .near(Memory::entries(1_000))
        .tier(Sqlite::memory())
        .expire(Ttl::secs(60))
        .build()?;
    let telemetry = Telemetry::new();
    telemetry.watch(&pages);
    for number in [1, 2, 1, 1, 3] {
        read(&pages, number).await?;
    }
    pages.settled().await;
    let Some(port) = std::env::args().nth(1) else {
        println!("{}{}", telemetry.prometheus(), telemetry.health().to_json());
        return Ok(());
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    let traffic = async {
        for number in 0.. {
            tokio::time::sleep(Duration::from_millis(20)).await;
            read(&pages, number % 100).await?;
        }
        Ok::<_, terrace::Error>(())
    };
    tokio::select! {
        served = axum::serve(listener, endpoints(telemetry)) => served?,
        ended = traffic => ended?,
    }
    Ok(())
}

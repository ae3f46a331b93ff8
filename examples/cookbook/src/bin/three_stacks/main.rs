//! One application on three stacks, side by side on real servers: memory + Postgres, Redis + Postgres, and
//! memory + Redis + Postgres. The stack is chosen by configuration, and the application's code is the same.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin three_stacks
//! cargo run --release -p terrace-cookbook --bin three_stacks -- --quick
//! ```
//!
//! Five scenarios run one after another on each stack: one instance, several instances, two thousand sessions,
//! restart, load balancing without affinity. Each instance has a stack of its own: its own connections, and
//! its own memory. The tables at the end show what this run measured, and which stack that speaks for.
//!
//! If `REDIS_URL` and `DATABASE_URL` are both set, the program uses those servers, with a key prefix and a schema
//! of its own, which it deletes at the end. Otherwise it starts private servers and also empties Redis.

mod application;
mod measure;
mod scenarios;
mod servers;
mod table;

use std::error::Error;

use scenarios::Size;
use servers::Servers;

type Outcome<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// A choice of tiers. Sessions are records, which live in Postgres on every stack.
#[derive(Clone, Copy)]
struct Choice {
    name: &'static str,
    memory: bool,
    redis: bool,
}

const CHOICES: [Choice; 3] = [
    Choice { name: "memory + Postgres", memory: true, redis: false },
    Choice { name: "Redis + Postgres", memory: false, redis: true },
    Choice { name: "memory + Redis + Postgres", memory: true, redis: true },
];

#[tokio::main]
async fn main() -> Outcome {
    let size = match std::env::args().nth(1).as_deref() {
        None => Size::FULL,
        Some("--quick") => Size::QUICK,
        Some(_) => return Err("usage: three_stacks [--quick]".into()),
    };
    let servers = Servers::find().await?;
    let outcome = compare(&servers, &size).await;
    let tidied = servers.tidy().await;
    outcome.and(tidied)
}

async fn compare(servers: &Servers, size: &Size) -> Outcome {
    let mut columns = Vec::new();
    for choice in CHOICES {
        println!("{} ..", choice.name);
        columns.push(scenarios::run(servers, choice, size).await?);
    }
    println!("\n{}", table::scenarios(&columns));
    println!("{}", table::verdicts(&columns));
    Ok(())
}

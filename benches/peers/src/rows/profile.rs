//! `profile`: what operations on a Redis cost, on both sides of the connection.

use terrace_testbed::Redis;

use super::{filled, place};
use crate::{
    Result,
    measure::{
        callers::Callers,
        costs::Costs,
        effort::Effort,
        rounds::{Figures, rounds},
        side::Side,
    },
    peers::{redis, terrace},
    report::table::Table,
    work::{
        loaders::Loader,
        read_through::{Candidate, Place},
        remote::RemoteOp,
    },
};

/// How many operations a turn has.
const TURN: usize = 3_200;

/// The figures of each number of callers.
const COSTS: [(&str, fn(&Costs) -> f64); 4] = [
    ("client, us", |costs| costs.client),
    ("server, us", |costs| costs.server),
    ("commands", |costs| costs.commands),
    ("reads of the server", |costs| costs.trips),
];

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let server = Redis::start().await?;
    let mut connection = ::redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    let mut sides = sides(&place(&server)).await;
    let title = "What one operation costs: processor time of the program and of Redis in microseconds, commands that \
                 Redis runs (those in scripts included), and how often it reads from the connection. A miss is a read \
                 of a new key with a loader that answers at once. Less is better.";
    let mut table = Table::new("profile", title, &sides);
    table.servers.push(server.version().await?);
    for callers in [1, 32] {
        let costs = rounds(&mut sides, effort, async |turns, n| {
            Costs::of(turns, &mut connection, callers, n * 1_000_003, effort.scaled(TURN) / callers).await
        })
        .await;
        for (name, figure) in COSTS {
            let figures: Vec<Figures> = costs
                .iter()
                .map(|costs| {
                    costs.as_ref().map(|costs| costs.iter().map(figure).collect()).map_err(String::clone)
                })
                .collect();
            table.paired(format!("{callers} at once: {name}"), &sides, &figures);
        }
    }
    Ok(table)
}

/// Raw commands, and after each of them the call that does the same.
async fn sides(place: &Place) -> Vec<Callers> {
    let mut sides = Vec::new();
    for (op, command, call) in [(RemoteOp::Get, "GET", "get"), (RemoteOp::Put, "SET EX", "put")] {
        let raw = sides.len();
        sides.push(filled(&redis::PEER, command, op, redis::Raw::connect(place).await).await.beside(raw));
        let cache = terrace::redis_alone(place).await;
        sides.push(filled(&terrace::PEER, call, op, cache).await.beside(raw));
    }
    let raw = sides.len();
    for candidate in [redis::READ_THROUGH, terrace::READ_THROUGH] {
        sides.push(misses(candidate, place).await.beside(raw));
    }
    sides
}

async fn misses(candidate: Candidate, place: &Place) -> Callers {
    let turns = (candidate.connect)(place.clone()).await.map(|cache| cache.misses(Loader::Instant));
    Side::new(candidate.peer, format!("a miss: {}", candidate.usage), turns)
}

//! `stampede`: a thousand callers of one cold key, in one process and in each of four.

use std::{
    process::Stdio,
    time::{Duration, SystemTime},
};

use futures_util::future::try_join_all;
use terrace_testbed::Redis;
use tokio::process::Command;

use super::place;
use crate::{
    Result,
    data::new_key,
    measure::{
        effort::Effort,
        rounds::{Figures, rounds},
        side::Side,
    },
    peers::crowds,
    report::table::{Cell, Table},
    work::{
        crowd::Outcome,
        loaders::SLOW,
        read_through::{Candidate, Loads, Place},
    },
};

/// The argument by which the program runs one of several processes.
pub const PROCESS: &str = "--stampede-process";

const CALLERS: usize = 1_000;
const PROCESSES: usize = 4;
/// How long processes may take to start and connect before all begin.
const START: Duration = Duration::from_millis(1_500);

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    let server = Redis::start().await?;
    let effort = Effort { rounds: effort.rounds.div_ceil(3), ..effort };
    let mut sides: Vec<Side<dyn Loads>> = Vec::new();
    for candidate in crowds() {
        sides.push(Side::new(candidate.peer, candidate.usage, (candidate.connect)(place(&server)).await));
    }
    let title = format!(
        "1,000 callers of one key that no tier has, whose load takes {} ms; in four processes each has 1,000 callers. \
         The most loads of a round, and the 99th percentile of the callers' times, less is better.",
        SLOW.as_millis()
    );
    let mut table = Table::new("stampede", title, &sides);
    table.servers.push(server.version().await?);
    let mut loads = vec![0; sides.len()];
    let figures =
        outcomes(&mut sides, effort, &mut loads, async |cache| cache.crowd(new_key(), CALLERS).await).await;
    columns(&mut table, "1 process", &sides, &loads, &figures);

    let mut candidates: Vec<Side<Candidate>> = Vec::new();
    for (side, candidate) in sides.iter().zip(crowds()) {
        let state = side.state.as_ref().map(|_| Box::new(*candidate)).map_err(String::clone);
        candidates.push(Side { peer: side.peer, usage: side.usage.clone(), raw: 0, state });
    }
    let mut loads = vec![0; sides.len()];
    let figures = outcomes(&mut candidates, effort, &mut loads, async |candidate| {
        processes(candidate, place(&server)).await
    })
    .await;
    columns(&mut table, "4 processes", &candidates, &loads, &figures);
    Ok(table)
}

/// The 99th percentiles of the rounds; the most loads of each side go to `loads`.
async fn outcomes<T: ?Sized>(
    sides: &mut [Side<T>],
    effort: Effort,
    loads: &mut [usize],
    crowd: impl AsyncFn(&T) -> Result<Outcome>,
) -> Vec<Figures> {
    let count = sides.len();
    rounds(sides, effort, async |side, n| {
        let outcome = crowd(side).await?;
        let most = &mut loads[n % count];
        *most = outcome.loads.max(*most);
        Ok(outcome.p99_ms)
    })
    .await
}

fn columns<T: ?Sized>(
    table: &mut Table,
    place: &str,
    sides: &[Side<T>],
    loads: &[usize],
    figures: &[Figures],
) {
    let cell = |(side, loads): (&Side<T>, &usize)| {
        Cell::plain(side.state.as_ref().map(|_| loads.to_string()).map_err(String::clone))
    };
    table.cells(format!("{place}: loads"), sides.iter().zip(loads).map(cell).collect());
    table.paired(format!("{place}: p99, ms"), sides, figures);
}

/// Lets processes read one key at once.
async fn processes(candidate: &Candidate, place: Place) -> Result<Outcome> {
    let index =
        crowds().iter().position(|crowd| crowd.usage == candidate.usage && crowd.peer == candidate.peer);
    let index = index.ok_or("no such candidate")?.to_string();
    let begin = (SystemTime::now() + START).duration_since(SystemTime::UNIX_EPOCH)?.as_millis().to_string();
    let key = new_key().to_string();
    let mut children = Vec::new();
    for _ in 0..PROCESSES {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([PROCESS, &index, &place.url, &place.namespace, &key, &begin]);
        children.push(command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?.wait_with_output());
    }
    let mut all = Outcome { loads: 0, p99_ms: 0.0 };
    for output in try_join_all(children).await? {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (loads, p99) = text.trim().split_once(' ').ok_or("a process failed")?;
        all.loads += loads.parse::<usize>()?;
        all.p99_ms = all.p99_ms.max(p99.parse()?);
    }
    Ok(all)
}

/// Runs one of the processes: prints its loads and its 99th percentile.
///
/// # Errors
/// The arguments are not those that the row gives; the error of a read.
pub async fn process(arguments: &[String]) -> Result<()> {
    let [index, url, namespace, key, begin] = arguments else { return Err("wrong arguments".into()) };
    let candidates = crowds();
    let candidate = candidates.get(index.parse::<usize>()?).ok_or("no such candidate")?;
    let cache = (candidate.connect)(Place { url: url.clone(), namespace: namespace.clone() }).await?;
    let begin = SystemTime::UNIX_EPOCH + Duration::from_millis(begin.parse()?);
    let wait = begin.duration_since(SystemTime::now()).map_err(|_| "the process started too late")?;
    tokio::time::sleep(wait).await;
    let outcome = cache.crowd(key.parse()?, CALLERS).await?;
    println!("{} {}", outcome.loads, outcome.p99_ms);
    Ok(())
}

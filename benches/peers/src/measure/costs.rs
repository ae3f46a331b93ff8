//! What operations on a Redis cost: processor time of both programs, commands and trips.

use std::fs;

use redis::aio::MultiplexedConnection;

use super::callers::Turns;
use crate::Result;

/// What one operation cost on average.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Processor time of this program, in microseconds.
    pub client: f64,
    /// Processor time of the server, in microseconds.
    pub server: f64,
    /// The commands that the server ran, those of scripts included.
    pub commands: f64,
    /// How often the server read from a connection.
    pub trips: f64,
}

/// What has been used up since the start of both programs. Operations cost the difference of two of them.
struct Meters([f64; 4]);

impl Costs {
    /// Lets so many callers run so many operations each.
    ///
    /// # Errors
    /// Errors of the operations and of the server. Only Linux tells the processor time of this program's threads.
    pub async fn of(
        turns: &dyn Turns,
        server: &mut MultiplexedConnection,
        callers: usize,
        start: usize,
        each: usize,
    ) -> Result<Self> {
        let Meters(before) = Meters::read(server).await?;
        turns.burst(callers, start, each).await?;
        let Meters(after) = Meters::read(server).await?;
        let operations = (callers * each) as f64;
        let [client, server, commands, trips] = [0, 1, 2, 3].map(|at| (after[at] - before[at]) / operations);
        Ok(Self { client, server, commands, trips })
    }
}

impl Meters {
    async fn read(server: &mut MultiplexedConnection) -> Result<Self> {
        let info: String = redis::cmd("INFO").arg("all").query_async(server).await?;
        let field = |name: &str| -> Result<f64> {
            let found = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            Ok(found.ok_or_else(|| format!("the server does not tell {name}"))?.trim().parse()?)
        };
        let seconds = field("used_cpu_user")? + field("used_cpu_sys")?;
        let (commands, reads) = (field("total_commands_processed")?, field("total_reads_processed")?);
        Ok(Self([own_nanoseconds()? / 1e3, seconds * 1e6, commands, reads]))
    }
}

/// The processor time of all threads of this program.
fn own_nanoseconds() -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir("/proc/self/task")? {
        let times = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += times.split(' ').next().unwrap_or_default().parse::<f64>()?;
    }
    Ok(sum)
}

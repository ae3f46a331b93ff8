//! The five scenarios.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::{
    Choice, Outcome,
    application::Application,
    measure::{Balanced, Column, Load, Restart, Times, database_reads},
    servers::Servers,
};

/// How much each scenario does.
pub(crate) struct Size {
    requests_per_caller: u32,
    sessions: u64,
    many_sessions: u64,
    changes: u64,
    visits: u32,
}

impl Size {
    pub(crate) const FULL: Self =
        Self { requests_per_caller: 500, sessions: 200, many_sessions: 2_000, changes: 40, visits: 20 };
    pub(crate) const QUICK: Self =
        Self { requests_per_caller: 40, sessions: 20, many_sessions: 100, changes: 3, visits: 4 };
}

const INSTANCES: usize = 3;
/// After this time a change that no other instance has read is an error.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs all scenarios on one stack.
pub(crate) async fn run(servers: &Servers, choice: Choice, size: &Size) -> Outcome<Column> {
    let settings = servers.settings(choice);
    let namespace = choice.name.replace([' ', '+'], "");
    let open = async || Application::open(&settings, &namespace).await;
    let one = vec![open().await?];
    one[0].sign_in_all(size.many_sessions).await?;
    let load = requests(&one, size.sessions, 4, size.requests_per_caller).await?;

    let mut several = one;
    while several.len() < INSTANCES {
        several.push(open().await?);
    }
    let spread = requests(&several, size.sessions, 12, size.requests_per_caller).await?;
    let delays = delays(&several, size.changes).await?;
    let many = requests(&several, size.many_sessions, 64, size.requests_per_caller / 4).await?;
    let balanced = balanced(&several, size).await?;
    for instance in &several {
        instance.sessions.close().await;
    }
    drop(several);

    let restart = restart(&open().await?, servers, choice, size).await?;
    Ok(Column { stack: choice.name, one: load, several: spread, delays, many, restart, balanced })
}

/// Callers send requests for random sessions to random instances: four reads to each visit.
async fn requests(instances: &[Application], sessions: u64, callers: u64, each: u32) -> Outcome<Load> {
    let (begun, before) = (Instant::now(), database_reads(instances));
    let mut running = Vec::new();
    for caller in 0..callers {
        let instances = instances.to_vec();
        running.push(tokio::spawn(async move {
            let mut random = Random(caller + 1);
            let mut reads = Times::default();
            for request in 0..each {
                let instance = &instances[random.below(instances.len() as u64) as usize];
                // Some sessions are busier than others, as in life.
                let id = random.below(sessions).min(random.below(sessions));
                if request % 5 == 4 {
                    instance.visit(id).await?;
                } else {
                    let begun = Instant::now();
                    instance.read(id).await?;
                    reads.add(begun.elapsed());
                }
            }
            Ok::<_, terrace::Error>(reads)
        }));
    }
    let mut load = Load { requests: callers as u32 * each, ..Load::default() };
    for caller in running {
        load.reads.extend(caller.await??);
    }
    load.elapsed = begun.elapsed();
    load.database_reads = database_reads(instances) - before;
    Ok(load)
}

/// One instance changes a session, and another reads it until it sees the change.
async fn delays(instances: &[Application], changes: u64) -> Outcome<Times> {
    let mut delays = Times::default();
    for id in 0..changes {
        let visits =
            async |at: usize| Ok::<_, terrace::Error>(instances[at].read(id).await?.map_or(0, |s| s.visits));
        let before = visits(1).await?.max(visits(0).await?);
        instances[0].visit(id).await?;
        let begun = Instant::now();
        while visits(1).await? <= before {
            if begun.elapsed() > PATIENCE {
                return Err("a change was not seen by another instance".into());
            }
            sleep(Duration::from_micros(200)).await;
        }
        delays.add(begun.elapsed());
    }
    Ok(delays)
}

/// Each request of a session goes to the next instance, which reads the session and counts a visit.
async fn balanced(instances: &[Application], size: &Size) -> Outcome<Balanced> {
    let mut outcome = Balanced::default();
    for id in size.sessions..size.sessions + size.sessions / 4 {
        let begun_with = instances[0].read(id).await?.map_or(0, |session| session.visits);
        for visit in 0..size.visits {
            let instance = &instances[visit as usize % instances.len()];
            let seen = instance.read(id).await?.map_or(0, |session| session.visits);
            outcome.old_reads += u32::from(seen < begun_with + visit);
            outcome.retries += instance.visit(id).await?;
        }
        let strong = instances[0].sessions.with(terrace::Level::Strong);
        let ended_with = strong.get(&id).await?.map_or(0, |session| session.visits);
        outcome.visits += size.visits;
        outcome.lost_visits += begun_with + size.visits - ended_with;
    }
    Ok(outcome)
}

/// A new instance reads every session twice. Then Redis loses its data, where it is in use and ours.
async fn restart(new: &Application, servers: &Servers, choice: Choice, size: &Size) -> Outcome<Restart> {
    let mut outcome = Restart { sessions: size.many_sessions, ..Restart::default() };
    let before = database_reads(std::slice::from_ref(new));
    for pass in 0..2 {
        for id in 0..size.many_sessions {
            let begun = Instant::now();
            let found = new.read(id).await?.is_some();
            let times = if pass == 0 { &mut outcome.first } else { &mut outcome.second };
            times.add(begun.elapsed());
            outcome.lost += u64::from(!found);
        }
    }
    outcome.database_reads = database_reads(std::slice::from_ref(new)) - before;
    if choice.redis && servers.empty_redis().await? {
        let mut lost = 0;
        for id in 0..size.many_sessions {
            lost += u64::from(new.read(id).await?.is_none());
        }
        outcome.lost_with_redis = Some(lost);
    }
    new.sessions.close().await;
    Ok(outcome)
}

/// The same requests in each run, and on each stack (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

//! `terrace-bench own-cost`: how much of a near hit is the tool's own work.

use std::time::{Duration, Instant};

use terrace::{Memory, Quick, near::Near};

use crate::{
    failure::{Failure, Result, refuse},
    run::{Closed, Control, Feed, Origin, Payload, drive_closed, stack::StackCache},
    workload::Workload,
};

/// Measures near hits by a bare loop and by this tool, in turns, and prints the ratio
#[derive(Debug, clap::Args)]
pub(crate) struct OwnCostCommand {
    /// How often each is measured
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Every how many requests the tool measures the latency
    #[arg(long, default_value_t = 16)]
    latency_every: u32,
}

/// Fewer than are read ahead, so that no reader runs beside what is measured.
const REQUESTS: u64 = 500_000;

impl OwnCostCommand {
    /// Prints the medians.
    pub(crate) fn run(&self) -> Result<()> {
        if self.rounds == 0 || self.latency_every == 0 {
            refuse!("--rounds and --latency-every are at least 1");
        }
        let runtime =
            tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::new)?;
        runtime.block_on(async {
            self.measure("memory", Memory::entries(20_000)).await?;
            self.measure("quick", Quick::entries(20_000)).await
        })
    }

    async fn measure<N: Near<u64, Payload>>(&self, name: &str, near: N) -> Result<()> {
        let cache: StackCache<N> =
            terrace::Builder::new("own-cost".to_owned(), near).build().map_err(Failure::from)?;
        let workload = Workload::generated("uniform:keys=5000", REQUESTS)?;
        for key in 0..5_000 {
            cache.put(&key, Payload::of(key, 200)).await?;
        }
        let (mut bare, mut tool) = (Vec::new(), Vec::new());
        for _ in 0..self.rounds {
            bare.push(bare_loop(&cache, &workload).await?);
            tool.push(self.by_tool(&cache, &workload).await?);
        }
        let (bare, tool) = (median(&mut bare), median(&mut tool));
        println!(
            "{name}: bare loop {:.1} ns a near hit, terrace-bench {:.1} ns with the latency of one hit in {}: {:.2} of the \
             rate of the bare loop",
            bare,
            tool,
            self.latency_every,
            bare / tool
        );
        Ok(())
    }

    async fn by_tool<N: Near<u64, Payload>>(
        &self,
        cache: &StackCache<N>,
        workload: &Workload,
    ) -> Result<f64> {
        let feed = Feed::start(workload.open()?, 1)?;
        let closed =
            Closed { callers: 1, latency_every: self.latency_every, time: None, origin: Origin::default() };
        let began = Instant::now();
        let meter = drive_closed(cache, &feed, closed, &Control::default()).await?;
        let elapsed = began.elapsed();
        if meter.loaded > 0 {
            refuse!("{} reads were no near hits", meter.loaded);
        }
        Ok(nanos(elapsed))
    }
}

async fn bare_loop<N: Near<u64, Payload>>(cache: &StackCache<N>, workload: &Workload) -> Result<f64> {
    let mut requests = workload.open()?;
    let mut keys = Vec::with_capacity(REQUESTS as usize);
    while let Some(request) = requests.next()? {
        keys.push(request.key);
    }
    let cache = cache.clone();
    let looped = tokio::spawn(async move {
        let began = Instant::now();
        for key in &keys {
            let hit = cache.get_or_load(key, || async { Err::<Payload, _>("no near hit") }).await?;
            std::hint::black_box(&hit);
        }
        Ok::<_, terrace::Error>(began.elapsed())
    });
    Ok(nanos(looped.await.map_err(Failure::new)??))
}

fn nanos(elapsed: Duration) -> f64 {
    elapsed.as_nanos() as f64 / REQUESTS as f64
}

fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

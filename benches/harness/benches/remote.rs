//! Remote get, many-get and put, beside the raw clients: `cargo bench -p terrace-bench-harness --bench remote`.

#![expect(clippy::unwrap_used, reason = "a bench cannot measure without its server")]

use std::cell::Cell;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use terrace_bench_harness::{
    database::{self, Database},
    measure::callers::Work,
    remote::{Get, GetMany, Put, RawGet, RawGetMany, RawPut, Remote},
};
use terrace_testbed::{shared_postgres, shared_redis};
use tokio::runtime::Runtime;

fn redis(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let remote = runtime.block_on(async {
        let remote = Remote::connect(&shared_redis().await.unwrap()).await.unwrap();
        remote.fill().await.unwrap();
        remote
    });
    let mut group = criterion.benchmark_group("redis get");
    one(&mut group, &runtime, "cache", &Get(remote.clone()));
    one(&mut group, &runtime, "raw", &RawGet(remote.raw.clone()));
    group.finish();
    let mut group = criterion.benchmark_group("redis get of 100 keys");
    one(&mut group, &runtime, "cache", &GetMany(remote.clone()));
    one(&mut group, &runtime, "raw", &RawGetMany(remote.raw.clone()));
    group.finish();
    let mut group = criterion.benchmark_group("redis put");
    one(&mut group, &runtime, "cache", &Put(remote.clone()));
    one(&mut group, &runtime, "raw", &RawPut(remote.raw));
    group.finish();
}

fn postgres(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let database =
        runtime.block_on(async { Database::connect(&shared_postgres().await.unwrap()).await.unwrap() });
    let mut group = criterion.benchmark_group("postgres get");
    one(&mut group, &runtime, "cache", &database::Get(database.clone()));
    one(&mut group, &runtime, "raw", &database::RawGet(database.clone()));
    group.finish();
    let mut group = criterion.benchmark_group("postgres put");
    one(&mut group, &runtime, "cache", &database::Put(database.clone()));
    one(&mut group, &runtime, "raw", &database::RawPut(database));
    group.finish();
}

fn one<W: Work>(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str, work: &W) {
    let n = Cell::new(0);
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter(|| {
            n.set(n.get() + 1);
            let (work, n) = (work.clone(), n.get());
            async move { work.run(n).await.unwrap() }
        });
    });
}

criterion_group!(benches, redis, postgres);
criterion_main!(benches);

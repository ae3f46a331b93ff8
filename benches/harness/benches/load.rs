//! A read-through miss beside GET and SET, and a stampede beside the same on quick_cache:
//! `cargo bench -p terrace-bench-harness --bench load`.

#![expect(clippy::unwrap_used, reason = "a bench cannot measure without its server")]

use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use terrace::{Cache, Memory};
use terrace_bench_harness::{
    load::{Miss, RawMiss, raw_stampede, stampede},
    measure::callers::Work,
    remote::Remote,
};
use terrace_testbed::shared_redis;
use tokio::runtime::Runtime;

fn misses(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let remote = runtime.block_on(async { Remote::connect(&shared_redis().await.unwrap()).await.unwrap() });
    let mut group = criterion.benchmark_group("read-through miss");
    let miss = Miss(remote.clone());
    group.bench_function("cache", |bencher| {
        bencher.to_async(&runtime).iter(|| async { miss.run(0).await.unwrap() });
    });
    runtime.block_on(miss.settle());
    let raw = RawMiss(remote.raw);
    group.bench_function("raw", |bencher| {
        bencher.to_async(&runtime).iter(|| async { raw.run(0).await.unwrap() });
    });
    group.finish();
}

fn stampedes(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let cache =
        runtime.block_on(async { Cache::builder("stampede").near(Memory::entries(1_000)).build() }).unwrap();
    let engine = Arc::new(quick_cache::sync::Cache::new(1_000));
    let mut group = criterion.benchmark_group("stampede of 1,000");
    group.bench_function("cache", |bencher| {
        bencher.to_async(&runtime).iter(|| async { assert_eq!(stampede(&cache).await.unwrap(), 1) });
    });
    group.bench_function("raw", |bencher| {
        bencher.to_async(&runtime).iter(|| async { assert_eq!(raw_stampede(&engine).await.unwrap(), 1) });
    });
    group.finish();
}

criterion_group!(benches, misses, stampedes);
criterion_main!(benches);

//! Near hits beside the raw engines: `cargo bench -p terrace-bench-harness --bench near`.

#![expect(clippy::unwrap_used, reason = "a bench cannot measure without its cache")]

use std::{convert::Infallible, hint::black_box};

use criterion::{Criterion, criterion_group, criterion_main};
use terrace::near::Near;
use terrace_bench_harness::{
    data::Page,
    measure::threads::now,
    near::{Engine, Pair, memory, quick},
};
use tokio::runtime::Runtime;

fn near_hits(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    hits(criterion, "near hit, Memory", &runtime.block_on(memory()).unwrap());
    hits(criterion, "near hit, Quick", &runtime.block_on(quick()).unwrap());
}

fn hits<N: Near<String, Page>, E: Engine>(criterion: &mut Criterion, name: &str, pair: &Pair<N, E>) {
    let mut group = criterion.benchmark_group(name);
    let mut n = 0;
    let mut key = || {
        n += 1;
        pair.key(n)
    };
    group.bench_function("raw", |bencher| bencher.iter(|| black_box(pair.engine.hit(key()))));
    group.bench_function("get", |bencher| bencher.iter(|| black_box(now(pair.cache.get(key())))));
    group.bench_function("get_or_load", |bencher| {
        let load = || async { Ok::<_, Infallible>(Page::new(0)) };
        bencher.iter(|| black_box(now(pair.cache.get_or_load(key(), load))));
    });
    group.finish();
}

criterion_group!(benches, near_hits);
criterion_main!(benches);

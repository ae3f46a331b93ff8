//! A record of 160 bytes, and a page of 30 of them, in each codec: encoded, decoded, and read from Redis.
//! `cargo bench -p terrace-bench-harness --bench codec`.

#![expect(clippy::unwrap_used, reason = "a bench cannot measure without its server")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use serde::{Serialize, de::DeserializeOwned};
use terrace::{Builder, Cache, Codec, NoNear, Redis, Value};
use terrace_bench_harness::data::User;
use terrace_testbed::{shared_redis, unique_name};
use tokio::runtime::Runtime;

const CODECS: [(&str, Codec); 2] = [("postcard", Codec::Postcard), ("JSON", Codec::Json)];

fn one() -> User {
    User::new(5_000)
}

fn page() -> Vec<User> {
    (0..30).map(User::new).collect()
}

fn encode_and_decode<V: Serialize + DeserializeOwned>(criterion: &mut Criterion, name: &str, value: &V) {
    let mut group = criterion.benchmark_group(name);
    let postcard = postcard::to_stdvec(value).unwrap();
    let json = serde_json::to_vec(value).unwrap();
    println!("{name}: {} bytes in postcard, {} in JSON", postcard.len(), json.len());
    group.bench_function("encode postcard", |bencher| bencher.iter(|| postcard::to_stdvec(black_box(value))));
    group.bench_function("encode JSON", |bencher| bencher.iter(|| serde_json::to_vec(black_box(value))));
    let decode = || postcard::from_bytes::<V>(black_box(&postcard)).unwrap();
    group.bench_function("decode postcard", |bencher| bencher.iter(decode));
    let decode = || serde_json::from_slice::<V>(black_box(&json)).unwrap();
    group.bench_function("decode JSON", |bencher| bencher.iter(decode));
    group.finish();
}

fn hit<V>(criterion: &mut Criterion, runtime: &Runtime, name: &str, value: impl Fn() -> V)
where
    V: Value + Serialize + DeserializeOwned,
{
    let mut group = criterion.benchmark_group(format!("hit in Redis, {name}"));
    for (codec_name, codec) in CODECS {
        let cache: Cache<String, V, NoNear> = runtime.block_on(async {
            let redis = Redis::new(shared_redis().await.unwrap()).unwrap();
            let cache = Builder::new(unique_name("codec"), NoNear).tier(redis).codec(codec).build().unwrap();
            cache.put("key", value()).await.unwrap();
            cache
        });
        let read = || async { cache.get("key").await.unwrap().unwrap() };
        group.bench_function(codec_name, |bencher| bencher.to_async(runtime).iter(read));
    }
    group.finish();
}

fn codecs(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    encode_and_decode(criterion, "one record", &one());
    encode_and_decode(criterion, "30 records", &page());
    hit(criterion, &runtime, "one record", one);
    hit(criterion, &runtime, "30 records", page);
}

criterion_group!(benches, codecs);
criterion_main!(benches);

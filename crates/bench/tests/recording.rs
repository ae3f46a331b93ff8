//! What a cache records is replayed to the same hit ratio.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::Command;

use terrace::{Cache, Memory, recorder::Recorder};

#[tokio::test]
async fn a_recording_of_all_keys_replays_to_the_hit_ratio_of_the_cache() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests.csv");
    let recorder = Recorder::new(&path).one_in(1);
    let cache: Cache<String, u64> =
        Cache::builder("users").near(Memory::entries(300)).record(&recorder).build().unwrap();
    recorder.start().unwrap();
    let mut random = fastrand::Rng::with_seed(11);
    let (mut reads, mut loads) = (0_u32, 0_u32);
    for request in 0..40_000 {
        let most = random.u64(1..=3_000);
        let key = format!("user-{}", random.u64(..most));
        if request % 50 == 0 {
            cache.invalidate(&key).await.unwrap();
            continue;
        }
        reads += 1;
        let loaded = cache.get_or_load(&key, || async { Ok::<_, std::io::Error>(1) }).await.unwrap();
        loads += u32::from(loaded.served().from == terrace::Source::Loader);
    }
    let recorded = recorder.stop().unwrap();
    assert_eq!((recorded.requests, recorded.left_out), (40_000, 0));

    let report = folder.path().join("report.json");
    let mut program = Command::new(env!("CARGO_BIN_EXE_terrace-bench"));
    program.arg("run").arg(&path).args(["--stack", "memory:300", "--quiet", "--json"]).arg(&report);
    let output = program.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let of = |name: &str| report["rows"][0][name].as_f64().unwrap();
    assert!((of("reads") - f64::from(reads)).abs() < 0.5);
    let (replayed, measured) = (of("loaded") / of("reads"), f64::from(loads) / f64::from(reads));
    assert!(
        (replayed - measured).abs() < 0.01,
        "{replayed} of the reads were loaded, and {measured} in the cache"
    );
    assert!(measured > 0.2 && measured < 0.95, "{measured}");
}

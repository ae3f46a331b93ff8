//! Every format, from real traces and from files made by hand; files that are cut, empty or wrong.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use clap::Parser;

use super::{Action, Request, Summary, Workload};

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    workload: Workload,
}

fn workload(path: &Path, options: &str) -> Workload {
    let path = path.to_str().unwrap();
    let words = ["run", path].into_iter().chain(options.split_whitespace());
    Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).workload
}

fn counts(path: &Path, options: &str) -> (u64, u64) {
    let summary = Summary::of(workload(path, options).open().unwrap()).unwrap();
    (summary.requests, summary.keys)
}

/// The one line that a trace is refused with.
fn refusal(path: &Path, options: &str) -> String {
    let opened = workload(path, options).open();
    let line = opened.and_then(Summary::of).unwrap_err().to_string();
    assert!(!line.contains('\n'), "{line}");
    line
}

fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    (folder, path)
}

fn requests(path: &Path, options: &str) -> Vec<Request> {
    let mut open = workload(path, options).open().unwrap();
    std::iter::from_fn(|| open.next().unwrap()).collect()
}

#[test]
fn real_traces_have_the_requests_and_keys_that_their_sources_state() {
    let Some(folder) = super::data_folder() else { return };
    for (name, options, expected) in [
        ("OLTP.lis.zst", "", (914_145, 186_880)),
        ("web07.trace.xz", "", (76_118, 20_484)),
        ("trace_vaultservice.gz", "", (135_702, 90_468)),
        ("nasa_19950801.tsv.gz", "", (30_969, 2_088)),
        ("mooncake_conversation_trace.jsonl.gz", "", (288_500, 182_790)),
    ] {
        assert_eq!(counts(&folder.join(name), options), expected, "{name}");
    }
    assert_eq!(counts(&folder.join("gli.trace.gz"), "").0, 6_015);
    assert_eq!(counts(&folder.join("loop.trace.gz"), "").0, 505_500);
    let azure = "--key-column ContextTokens --size-column GeneratedTokens";
    assert_eq!(counts(&folder.join("AzureLLMInferenceTrace_code.csv"), azure).0, 8_819);
    // A histogram of sizes, with the mean that its 7,520 ranges give.
    let sizes: super::Sizes = folder.join("kvcache_reg_sizes.json").to_str().unwrap().parse().unwrap();
    let mean = (0..20_000).map(|key| f64::from(sizes.of(key))).sum::<f64>() / 20_000.0;
    assert!((100.0..10_000.0).contains(&mean), "{mean}");
}

#[test]
fn formats_by_hand_give_keys_sizes_and_actions() {
    let at = |key, bytes, action| Request { key, bytes, action };
    let (_folder, csv) = file("a.csv", b"# terrace recording\nmicros,op,key,bytes\n1,get,7,10\n2,put,8,\n");
    let expected = [at(7, 10, Action::Read), at(8, 200, Action::Write)];
    assert_eq!(requests(&csv, ""), expected);

    let (_folder, simulated) = file("b.csv", b"1, 7, 10, get\n2, 8, 20, delete\n");
    let expected = [at(7, 10, Action::Read), at(8, 20, Action::Remove)];
    assert_eq!(requests(&simulated, "--format libcachesim-csv"), expected);

    let mut oracle = Vec::new();
    for (key, next) in [(7_u64, 2_i64), (8, -1), (7, i64::MAX)] {
        oracle.extend(1_u32.to_le_bytes());
        oracle.extend(key.to_le_bytes());
        oracle.extend(512_u32.to_le_bytes());
        oracle.extend(next.to_le_bytes());
    }
    let (_folder, general) = file("c.oracleGeneral", &oracle);
    assert_eq!(requests(&general, ""), [7, 8, 7].map(|key| at(key, 512, Action::Read)));
    let (_folder, wrong) = file("d.oracleGeneral", &[0; 48]);
    assert!(refusal(&wrong, "").contains("at byte 24: a next access in the past"));

    let (_folder, keys) = file("e.keys", b"7\nuser:9\n\nuser:9\r\n");
    let keys = requests(&keys, "");
    assert_eq!((keys.len(), keys[0].key, keys[1]), (3, 7, keys[2]));

    let (_folder, json) = file("f.jsonl", br#"{"key":"7","size":5,"op":"set"}"#);
    assert_eq!(requests(&json, ""), [at(7, 5, Action::Write)]);

    let log = br#"1.1.1.1 - - [17/May/2015:10:05:03 +0000] "GET /a HTTP/1.1" 200 203 "-" "curl"
1.1.1.1 - - [17/May/2015:10:05:04 +0000] "GET /a HTTP/1.1" 304 -
"#;
    let (_folder, log) = file("access.log", log);
    let requests = requests(&log, "");
    assert_eq!(requests.iter().map(|request| request.bytes).collect::<Vec<_>>(), [203, 200]);
    assert_eq!(counts(&log, ""), (2, 1));
}

#[test]
fn a_trace_in_the_clear_and_packed_three_ways_is_the_same() {
    let text: String = (0..500).map(|line| format!("{}\n", line % 77)).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd =
        ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest);
    for (name, bytes) in [("a.trace", text.as_bytes()), ("a.trace.gz", &gzip), ("a.trace.zst", &zstd)] {
        let (_folder, path) = file(name, bytes);
        assert_eq!(counts(&path, ""), (500, 77), "{name}");
        if bytes != text.as_bytes() {
            let (_folder, cut) = file(name, &bytes[..bytes.len() - 9]);
            let line = refusal(&cut, "");
            assert!(line.contains(name) && (line.contains("cut") || line.contains("damaged")), "{line}");
        }
    }
}

#[test]
fn cut_empty_and_wrong_files_get_one_line_with_file_and_position() {
    for (name, bytes, options, expected) in [
        ("a.lis", &b"1 2 0 0\n3 1 0"[..], "", "a.lis line 2: no line `first_block blocks 0 request`"),
        ("b.trace", b"1\nx\n", "", "b.trace line 2: no number"),
        ("c.trace.xz", b"\xfd7zXZ\0\0\x04", "", "c.trace.xz"),
        ("d.bin", b"\0\0\0\x01\0\0", "--format cache2k", "d.bin at byte 4: the file ends in the middle"),
        (
            "e.csv",
            b"a,b\n1,2\n",
            "",
            "e.csv line 1: the header names no such column; give one with --key-column: a, b",
        ),
        ("f.csv", b"key,bytes\n1,2\n1", "", "f.csv line 3: the line has no size: is the file cut?"),
        ("g.csv", b"key,bytes\n1,x\n", "", "g.csv line 2: the size is no number"),
        ("h.jsonl", b"{\"key\":1}\n{\"key\":", "", "h.jsonl line 2: no JSON object"),
        ("i.log", b"no log\n", "", "i.log line 1: no line of a web log"),
        ("j.keys", b"a\0b", "", "j.keys line 1: a zero byte"),
        ("k.dat", b"1", "", "its name tells no format; give one with --format"),
        ("l.csv", b"", "", "l.csv at byte 0: the file is empty"),
        ("m.trace", b"", "", "the trace is empty"),
    ] {
        let (_folder, path) = file(name, bytes);
        let line = refusal(&path, options);
        assert!(line.contains(expected), "{name}: {line}");
    }
    let line = refusal(Path::new("/no/such.trace"), "");
    assert!(line.contains("/no/such.trace") && line.contains("No such file"), "{line}");
}

#[test]
fn generators_mixes_and_sizes_are_the_same_for_the_same_seed() {
    let of = |options: &str| {
        let words = ["run"].into_iter().chain(options.split_whitespace());
        let workload = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).workload;
        let mut open = workload.open().unwrap();
        std::iter::from_fn(|| open.next().unwrap()).collect::<Vec<_>>()
    };
    let line =
        "--synthetic hot-set:keys=1000,hot=10,every=100 --requests 5000 --sizes 10..20 --mix read=3,write=1";
    let requests = of(line);
    assert_eq!(requests, of(line));
    assert_ne!(requests, of(&format!("{line} --seed 2")));
    assert!(requests.iter().all(|request| (10..=20).contains(&request.bytes)));
    let writes = requests.iter().filter(|request| request.action == Action::Write).count();
    assert!((1_000..1_500).contains(&writes), "{writes}");
    let scan = of("--synthetic scan --requests 3");
    assert_eq!(scan.iter().map(|request| request.key).collect::<Vec<_>>(), [0, 1, 2]);
    for wrong in ["zipf:keys=0", "zipf:key=1", "nothing", "hot-set:keys=5,hot=6", "zipf:exponent=x"] {
        assert!(Line::try_parse_from(["run", "--synthetic", wrong]).is_err(), "{wrong}");
    }
}

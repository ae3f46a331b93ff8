//! Stored bytes that another program has changed, in real Redis, Postgres and SQLite.

use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use terrace::{
    BoxError, Builder, Compression, ErrorKind, NoNear, Postgres, Redis, Sqlite, TierSettings,
    tier::HEADER_LEN,
};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};

use super::stacks::Stack;
use crate::support::{PATIENCE, raw_redis, redis_command};

/// The offsets of the parts of an envelope. The layout is in the docs of `terrace_core::codec`.
const FORMAT_AT: usize = 4;
const COMPRESSION_AT: usize = 6;
const PAYLOAD_LEN_AT: usize = 38;
const RAW_LEN_AT: usize = 42;
const CHECKSUM_AT: usize = 46;
const ENVELOPE_LEN: usize = 50;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Person {
    name: String,
    numbers: Vec<u32>,
    nested: Option<Nested>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Nested {
    Leaf,
    More(Box<Nested>),
}

fn ada() -> Person {
    Person {
        name: "Ada".into(),
        numbers: vec![1, 2, 300],
        nested: Some(Nested::More(Box::new(Nested::Leaf))),
    }
}

/// Raw access to the stored bytes of the key `k`, as another program has it.
enum Raw {
    Redis { raw: redis::aio::MultiplexedConnection, key: String },
    Postgres { session: PgConnection, table: &'static str },
    Sqlite { session: SqliteConnection, _folder: tempfile::TempDir },
}

impl Raw {
    async fn redis(cache: &Stack<String, Person>) -> Self {
        let raw = raw_redis(&shared_redis().await.unwrap()).await;
        Self::Redis { raw, key: format!("terrace:{}:k", cache.namespace()) }
    }

    async fn postgres(url: &str, table: &'static str) -> Self {
        Self::Postgres { session: PgConnection::connect(url).await.unwrap(), table }
    }

    /// A database file, and another connection to it. Its journal lets both write.
    async fn sqlite() -> (Sqlite, Self) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bytes.db");
        let sqlite = Sqlite::file(&path).unwrap();
        let opened: Stack<String, Person> = builder().tier(sqlite.clone()).build().unwrap();
        opened.ready().await.unwrap();
        let session = SqliteConnection::connect(&format!("sqlite://{}", path.display())).await.unwrap();
        (sqlite, Self::Sqlite { session, _folder: folder })
    }

    async fn sqlite_cell(session: &mut SqliteConnection) -> Vec<u8> {
        sqlx::query_scalar("select cell from cells where key = cast('k' as blob)")
            .fetch_one(session)
            .await
            .unwrap()
    }

    async fn envelope(&mut self) -> Vec<u8> {
        match self {
            Self::Redis { raw, key } => {
                let cell: Vec<u8> = redis_command(raw, &["GET", key]).await;
                cell[HEADER_LEN..].to_vec()
            }
            Self::Postgres { session, table } => {
                let select = format!("select body from terrace.{table} where key = 'k'");
                sqlx::query_scalar(AssertSqlSafe(select)).fetch_one(session).await.unwrap()
            }
            Self::Sqlite { session, .. } => Self::sqlite_cell(session).await[HEADER_LEN..].to_vec(),
        }
    }

    async fn replace(&mut self, envelope: &[u8]) {
        match self {
            Self::Redis { raw, key } => {
                let cell: Vec<u8> = redis_command(raw, &["GET", key]).await;
                let cell = [&cell[..HEADER_LEN], envelope].concat();
                redis::cmd("SET").arg(&*key).arg(cell).exec_async(raw).await.unwrap();
            }
            Self::Postgres { session, table } => {
                let update = format!("update terrace.{table} set body = $1 where key = 'k'");
                let update = sqlx::query(AssertSqlSafe(update)).bind(envelope);
                assert_eq!(update.execute(session).await.unwrap().rows_affected(), 1);
            }
            Self::Sqlite { session, .. } => {
                let cell = Self::sqlite_cell(session).await;
                let update = "update cells set cell = ? where key = cast('k' as blob)";
                let update = sqlx::query(update).bind([&cell[..HEADER_LEN], envelope].concat());
                assert_eq!(update.execute(session).await.unwrap().rows_affected(), 1);
            }
        }
    }
}

fn builder() -> Builder<String, Person, NoNear> {
    Builder::new(unique_name("bytes"), NoNear)
}

/// Caches of copies, each with raw access to its bytes.
async fn copies() -> Vec<(Stack<String, Person>, Raw)> {
    let redis = Redis::new(shared_redis().await.unwrap()).unwrap();
    let in_redis: Stack<_, _> = builder().tier(redis.budget(PATIENCE)).build().unwrap();
    let url = shared_postgres().await.unwrap();
    let in_postgres: Stack<_, _> =
        builder().tier(Postgres::new(&url).unwrap().budget(PATIENCE)).build().unwrap();
    let mut copies = Vec::new();
    let raw = Raw::redis(&in_redis).await;
    copies.push((in_redis, raw));
    in_postgres.ready().await.unwrap();
    copies.push((in_postgres, Raw::postgres(&url, "cache_entries").await));
    let (sqlite, raw) = Raw::sqlite().await;
    copies.push((builder().tier(sqlite.budget(PATIENCE)).build().unwrap(), raw));
    copies
}

/// Caches of records, each with raw access to its bytes.
async fn records() -> [(Stack<String, Person>, Raw); 2] {
    let (sqlite, raw) = Raw::sqlite().await;
    let in_sqlite = builder().store(sqlite.budget(PATIENCE)).build().unwrap();
    [records_in_postgres().await, (in_sqlite, raw)]
}

async fn records_in_postgres() -> (Stack<String, Person>, Raw) {
    let url = shared_postgres().await.unwrap();
    let store: Stack<_, _> = builder().store(Postgres::new(&url).unwrap().budget(PATIENCE)).build().unwrap();
    store.ready().await.unwrap();
    (store, Raw::postgres(&url, "records").await)
}

/// The envelope with each bit flipped, cut at each length, with a byte too many, and replaced.
fn damaged(envelope: &[u8]) -> Vec<Vec<u8>> {
    let flips = (0..envelope.len() * 8).map(|bit| {
        let mut bytes = envelope.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bytes
    });
    let cuts = (0..envelope.len()).map(|length| envelope[..length].to_vec());
    flips.chain(cuts).chain([[envelope, b"x"].concat(), b"{\"name\":\"Eve\"}".to_vec()]).collect()
}

/// Valid envelopes of this key with hostile payloads.
fn hostile(envelope: &[u8]) -> Vec<Vec<u8>> {
    let gibibyte = [0x80, 0x80, 0x80, 0x80, 0x04];
    // A payload that claims a length of a gibibyte, and has eight bytes.
    let claims = |before: &[u8]| [before, &gibibyte, b"12345678"].concat();
    let mut nested = b"\x00\x00\x01".to_vec();
    nested.resize(1_000_000, 1);
    let payloads = [claims(b""), claims(b"\x00"), nested, Vec::new(), vec![0xff; 13], vec![0xff; 100_000]];
    let sealed = payloads.iter().map(|payload| seal(envelope, 0, payload.len(), payload));
    // These compressed payloads claim to be a gibibyte or more, or smaller than they are.
    let bombs = [1 << 30, u32::MAX as usize, 1].map(|raw_len| seal(envelope, 1, raw_len, &[0xff; 2_000]));
    sealed.chain(bombs).collect()
}

/// The envelope with another payload, and with lengths and a checksum that fit it.
fn seal(envelope: &[u8], compression: u8, raw_len: usize, payload: &[u8]) -> Vec<u8> {
    let number = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut bytes = envelope[..ENVELOPE_LEN].to_vec();
    bytes[COMPRESSION_AT] = compression;
    bytes[PAYLOAD_LEN_AT..RAW_LEN_AT].copy_from_slice(&number(payload.len()));
    bytes[RAW_LEN_AT..CHECKSUM_AT].copy_from_slice(&number(raw_len));
    bytes.extend(payload);
    let checksum = crc32c(bytes[..CHECKSUM_AT].iter().chain(&bytes[ENVELOPE_LEN..]));
    bytes[CHECKSUM_AT..ENVELOPE_LEN].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32c<'a>(bytes: impl Iterator<Item = &'a u8>) -> u32 {
    !bytes.fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    })
}

async fn is_a_miss_that_heals(cache: &Stack<String, Person>, raw: &mut Raw, bytes: &[u8], newer: bool) {
    let undecodable = || cache.stats().tiers[0].undecodable;
    raw.replace(bytes).await;
    let before = undecodable();
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!(undecodable(), before + 1, "the miss is counted");
    assert_eq!(*cache.get_or_load("k", async || Ok::<_, BoxError>(ada())).await.unwrap(), ada());
    cache.settled().await;
    if newer {
        assert!(raw.envelope().await == bytes, "a value in a newer format must not be overwritten");
    } else {
        assert_eq!(*cache.get("k").await.unwrap().unwrap(), ada(), "the load replaced it");
    }
}

#[test]
fn a_sealed_envelope_is_sealed_as_the_library_does() {
    assert_eq!(crc32c(b"123456789".iter()), 0xe306_9283, "the check value of CRC-32C");
}

#[tokio::test]
async fn every_flipped_bit_and_every_cut_is_a_counted_miss_that_heals() {
    for (cache, mut raw) in copies().await {
        cache.put("k", ada()).await.unwrap();
        let envelope = raw.envelope().await;
        for bytes in damaged(&envelope) {
            let newer = bytes.len() >= ENVELOPE_LEN
                && bytes[..FORMAT_AT] == envelope[..FORMAT_AT]
                && bytes[FORMAT_AT] != envelope[FORMAT_AT];
            is_a_miss_that_heals(&cache, &mut raw, &bytes, newer).await;
        }
    }
}

#[tokio::test]
async fn hostile_payloads_are_counted_misses_that_heal() {
    for (cache, mut raw) in copies().await {
        cache.put("k", ada()).await.unwrap();
        let envelope = raw.envelope().await;
        let same = seal(&envelope, 0, envelope.len() - ENVELOPE_LEN, &envelope[ENVELOPE_LEN..]);
        assert_eq!(same, envelope, "`seal` makes a valid envelope");
        for bytes in hostile(&envelope) {
            is_a_miss_that_heals(&cache, &mut raw, &bytes, false).await;
        }
    }
}

#[tokio::test]
async fn damaged_and_hostile_records_are_typed_errors_that_no_loader_replaces() {
    for (store, mut raw) in records().await {
        store.put("k", ada()).await.unwrap();
        store.put("other", ada()).await.unwrap();
        let envelope = raw.envelope().await;
        for bytes in damaged(&envelope).into_iter().step_by(5).chain(hostile(&envelope)) {
            raw.replace(&bytes).await;
            let read = store.get("k").await.unwrap_err();
            let loaded = store.get_or_load("k", async || Ok::<_, BoxError>(ada())).await.unwrap_err();
            for error in [read, loaded] {
                assert_eq!(error.kind(), ErrorKind::Undecodable, "{error}");
                assert!(matches!(error.tier(), Some("postgres" | "sqlite")), "{error}");
            }
            assert!(raw.envelope().await == bytes, "a load must not overwrite a record");
        }
        assert_eq!(*store.get("other").await.unwrap().unwrap(), ada());
        store.put("k", ada()).await.unwrap();
        assert_eq!(*store.get("k").await.unwrap().unwrap(), ada(), "a put replaces it");
    }
}

#[tokio::test]
async fn another_records_bytes_are_a_typed_error_and_never_its_value() {
    let (store, mut raw) = records_in_postgres().await;
    store.put("k", ada()).await.unwrap();
    store.put("other", Person { name: "Eve".into(), ..ada() }).await.unwrap();
    let Raw::Postgres { session, .. } = &mut raw else { panic!("records are in Postgres") };
    let copy = "update terrace.records set body = (select body from terrace.records where key = 'other') \
                where key = 'k'";
    sqlx::query(copy).execute(session).await.unwrap();
    assert_eq!(store.get("k").await.unwrap_err().kind(), ErrorKind::Undecodable);
    assert_eq!(store.get("other").await.unwrap().unwrap().name, "Eve");
}

#[tokio::test]
async fn compressed_values_that_are_damaged_are_counted_misses_that_heal() {
    let redis = Redis::new(shared_redis().await.unwrap()).unwrap();
    let cache: Stack<String, Person> = builder()
        .compression(Compression::Lz4 { from_bytes: 1 })
        .tier(redis.budget(PATIENCE))
        .build()
        .unwrap();
    let mut raw = Raw::redis(&cache).await;
    cache.put("k", Person { name: "Ada ".repeat(100), ..ada() }).await.unwrap();
    let envelope = raw.envelope().await;
    assert_eq!(envelope[COMPRESSION_AT], 1);
    for at in ENVELOPE_LEN..envelope.len() {
        let mut payload = envelope[ENVELOPE_LEN..].to_vec();
        payload[at - ENVELOPE_LEN] ^= 0x55;
        let raw_len = u32::from_be_bytes(envelope[RAW_LEN_AT..CHECKSUM_AT].try_into().unwrap());
        raw.replace(&seal(&envelope, 1, raw_len as usize, &payload)).await;
        // With a right checksum, the payload may decompress to another text of the same length, and
        // nothing can detect that. The read must not panic, and must end.
        cache.get("k").await.unwrap();
    }
    for bytes in damaged(&envelope).into_iter().step_by(7) {
        let newer = bytes.len() >= ENVELOPE_LEN && bytes[FORMAT_AT] != envelope[FORMAT_AT];
        is_a_miss_that_heals(&cache, &mut raw, &bytes, newer && bytes[..FORMAT_AT] == envelope[..FORMAT_AT])
            .await;
    }
}

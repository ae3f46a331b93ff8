//! Types that a shared tier cannot keep are refused when the cache is built; single values are told.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "a panic in a helper fails the test; serde alone uses some fields"
)]

mod support;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use support::{fake, ms};
use terrace_core::{
    BoxError, Builder, Cache, Codec, Error, ErrorKind, Event, Level, NoNear, Observer, Result, Source,
    key::{Digest, MAX_KEY_BYTES},
};
use terrace_tier::Clock;
use terrace_tier_memory::Memory;

fn cache<K, V>(codec: Codec) -> Result<Cache<K, V, NoNear>>
where
    K: terrace_core::Key + Serialize + DeserializeOwned,
    V: terrace_core::Value + Serialize + DeserializeOwned,
{
    let hand = Clock::manual();
    Builder::new("types".to_owned(), NoNear).clock(&hand).tier(fake("redis", &hand)).codec(codec).build()
}

fn values<V: terrace_core::Value + Serialize + DeserializeOwned>(codec: Codec) -> Result<(), Error> {
    cache::<u8, V>(codec).map(|_| ())
}

fn keys<K: terrace_core::Key + Serialize + DeserializeOwned>() -> Result<(), Error> {
    cache::<K, u8>(Codec::Postcard).map(|_| ())
}

/// Checks that `build` refuses the type, and that the error has these words.
fn refused(built: Result<(), Error>, kind: ErrorKind, words: &[&str]) {
    let error = built.unwrap_err();
    assert_eq!((error.kind(), error.operation(), error.cache()), (kind, Some("build"), Some("types")));
    for word in words {
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct LeavesOut {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nick: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct NeverWrites {
    id: u64,
    #[serde(skip_serializing, default)]
    secret: String,
}

#[derive(Serialize, Deserialize)]
struct NeverReads {
    id: u64,
    #[serde(skip_deserializing)]
    total: u64,
}

#[derive(Serialize, Deserialize)]
enum Deep {
    Plain(u8),
    Nested { users: Vec<BTreeMap<String, Option<NeverWrites>>> },
}

#[derive(Serialize, Deserialize)]
enum DeepSkip {
    Plain,
    Nested(Vec<Option<LeavesOut>>),
}

#[derive(Serialize, Deserialize)]
struct LeavesOutLists {
    users: Vec<Listed>,
}

#[derive(Serialize, Deserialize)]
struct Listed {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    roles: Vec<String>,
}

#[tokio::test]
async fn a_field_that_serde_leaves_out_is_refused_where_the_codec_cannot_express_it() {
    let words = ["the field `nick` of `LeavesOut`", "skip_serializing_if", "Codec::Json"];
    refused(values::<LeavesOut>(Codec::Postcard), ErrorKind::Unencodable, &words);
    refused(values::<DeepSkip>(Codec::Postcard), ErrorKind::Unencodable, &words);
    refused(
        values::<LeavesOutLists>(Codec::Postcard),
        ErrorKind::Unencodable,
        &["the field `roles` of `Listed`"],
    );
    values::<LeavesOut>(Codec::Json).unwrap();
    values::<LeavesOutLists>(Codec::Json).unwrap();
    values::<DeepSkip>(Codec::Json).unwrap();
}

#[tokio::test]
async fn a_field_that_only_one_side_knows_is_refused_with_every_codec() {
    for codec in [Codec::Postcard, Codec::Json] {
        let words = ["the field `secret` of `NeverWrites`", "skip_serializing"];
        refused(values::<NeverWrites>(codec), ErrorKind::Unencodable, &words);
        refused(values::<Deep>(codec), ErrorKind::Unencodable, &words);
        let words = ["the field `total` of `NeverReads`", "skip_deserializing"];
        refused(values::<NeverReads>(codec), ErrorKind::Unencodable, &words);
    }
}

#[tokio::test]
async fn what_json_cannot_write_is_refused_with_json_and_kept_by_the_default() {
    let json = Codec::Json;
    refused(values::<HashMap<(u8, u8), u8>>(json), ErrorKind::Unencodable, &["key must be a string"]);
    refused(values::<Option<Option<u8>>>(json), ErrorKind::Unencodable, &["Codec::Postcard"]);
    refused(values::<Vec<Option<()>>>(json), ErrorKind::Unencodable, &["Codec::Postcard"]);
    values::<HashMap<(u8, u8), u8>>(Codec::Postcard).unwrap();
    values::<Option<Option<u8>>>(Codec::Postcard).unwrap();
    values::<Vec<Option<()>>>(Codec::Postcard).unwrap();
}

#[derive(Serialize, Deserialize)]
struct Aliased {
    #[serde(alias = "user_id", alias = "uid")]
    id: u64,
    #[serde(rename = "fullName", alias = "name")]
    name: String,
    #[serde(skip)]
    computed: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind")]
struct Tagged {
    id: u64,
}

#[derive(Serialize, Deserialize)]
struct Old {
    id: u64,
    removed: Option<u8>,
}

#[derive(Serialize, Deserialize)]
#[serde(from = "Old", into = "Plain")]
#[derive(Clone)]
struct New(u64);

#[derive(Serialize, Deserialize)]
struct Plain {
    id: u64,
    removed: Option<u8>,
}

impl From<Old> for New {
    fn from(old: Old) -> Self {
        Self(old.id)
    }
}

impl From<New> for Plain {
    fn from(new: New) -> Self {
        Self { id: new.0, removed: None }
    }
}

#[derive(Serialize, Deserialize)]
struct Tree {
    left: Option<Box<Tree>>,
    right: Option<Box<Tree>>,
    leaves: Vec<Tree>,
    by_name: HashMap<String, Tree>,
}

#[derive(Serialize, Deserialize)]
enum Expression {
    Add(Box<Expression>, Box<Expression>),
    Neg(Box<Expression>),
    Let { name: String, value: Box<Expression>, rest: Vec<Expression> },
    Number(f64),
}

#[derive(Serialize, Deserialize)]
struct OfEverything {
    text: Box<str>,
    bytes: Vec<u8>,
    set: HashSet<String>,
    address: IpAddr,
    id: uuid::Uuid,
    time: Duration,
    at: std::time::SystemTime,
    range: std::ops::Range<u8>,
    pair: (i128, char, bool, ()),
    array: [Option<f32>; 3],
    result: Result<u8, String>,
    digest: Digest,
}

#[tokio::test]
async fn ordinary_types_are_built_with_every_codec() {
    for codec in [Codec::Postcard, Codec::Json] {
        values::<Aliased>(codec).unwrap();
        values::<New>(codec).unwrap();
        values::<Tree>(codec).unwrap();
        values::<Expression>(codec).unwrap();
        values::<OfEverything>(codec).unwrap();
        values::<Vec<BTreeMap<String, Aliased>>>(codec).unwrap();
        values::<()>(codec).unwrap();
    }
    values::<Tagged>(Codec::Json).unwrap();
    values::<Option<terrace_json::Value>>(Codec::Json).unwrap();
}

/// A field of any form, as `serde_json::Value` is.
mod terrace_json {
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    pub(super) enum Value {
        Null,
        Bool(bool),
        Number(u64),
        Text(String),
        List(Vec<Value>),
    }
}

/// A type whose code panics on samples.
#[derive(Serialize)]
struct Panics(u8);

impl<'de> Deserialize<'de> for Panics {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = u8::deserialize(from)?;
        if value == 2 {
            std::panic::resume_unwind(Box::new("a sample"));
        }
        Ok(Self(value))
    }
}

#[tokio::test]
async fn a_type_whose_code_panics_on_a_sample_is_built() {
    values::<Panics>(Codec::Postcard).unwrap();
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Real(f64);

impl PartialEq for Real {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Real {}

impl std::hash::Hash for Real {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
struct SkippingKey {
    id: u64,
    #[serde(skip_serializing, default)]
    region: String,
}

#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
enum PlaceKey {
    Name(String),
    Point { at: Vec<Option<(Real, Real)>> },
}

#[tokio::test]
async fn a_key_type_that_no_tier_can_take_is_refused_by_the_type() {
    refused(keys::<Real>(), ErrorKind::Key, &["a key cannot hold a float"]);
    refused(keys::<(String, Option<Real>)>(), ErrorKind::Key, &["a key cannot hold a float"]);
    refused(keys::<PlaceKey>(), ErrorKind::Key, &["a key cannot hold a float"]);
    refused(keys::<BTreeMap<String, u8>>(), ErrorKind::Key, &["a key cannot hold a map"]);
    refused(keys::<SkippingKey>(), ErrorKind::Key, &["the field `region` of `SkippingKey`"]);
    keys::<(String, Option<uuid::Uuid>, Vec<u8>)>().unwrap();
    let hand = Clock::manual();
    let origin = support::ReplayableStore(fake("origin", &hand));
    let watching = Builder::<Real, u8, NoNear>::new("types".to_owned(), NoNear).watch_origin(&origin);
    refused(watching.build().map(|_| ()), ErrorKind::Key, &["a key cannot hold a float"]);
    let store = Builder::<Real, u8, NoNear>::new("types".to_owned(), NoNear).store(fake("db", &hand));
    refused(store.build().map(|_| ()), ErrorKind::Key, &["a key cannot hold a float"]);
}

/// What an observer was told of values that cannot be encoded.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl Observer for Told {
    fn observe(&self, _: &str, event: &Event<'_>) {
        if let Event::Unencodable { error } = event {
            self.0.lock().push(error.to_string());
        }
    }
}

#[tokio::test]
async fn a_single_value_that_cannot_be_encoded_is_counted_and_told() {
    let (hand, told) = (Clock::manual(), Told::default());
    let cache = Builder::<u8, f64, NoNear>::new("types".to_owned(), NoNear).clock(&hand);
    let cache = cache.tier(fake("redis", &hand)).codec(Codec::Json).observer(told.clone()).build().unwrap();
    for loads in 1..=3 {
        let value = cache.get_or_load(&1, async || Ok::<_, BoxError>(f64::NAN)).await.unwrap();
        assert!(value.is_nan());
        cache.settled().await;
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.unencodable, stats.tiers[0].fills), (loads, loads, 0));
        assert_eq!(told.0.lock().len() as u64, loads);
    }
    assert!(told.0.lock()[0].contains("JSON would write null"), "{:?}", told.0.lock());
}

fn prompt(letter: &str) -> String {
    letter.repeat(MAX_KEY_BYTES + 1)
}

/// Runs the same calls on one long key, whatever the stack.
async fn long_keys_work<N: terrace_core::near::Near<String, u64>>(cache: &Cache<String, u64, N>) {
    let (one, other) = (prompt("x"), prompt("y"));
    assert_eq!(*cache.get_or_load(&one, async || Ok::<_, BoxError>(1)).await.unwrap(), 1);
    cache.settled().await;
    assert_eq!(cache.get(&one).await.unwrap().map(|value| *value), Some(1));
    assert_eq!(cache.get(&other).await.unwrap().map(|value| *value), None);
    cache.put(&other, 2).await.unwrap();
    let keys = [one.clone(), other.clone(), "short".to_owned()];
    let many = cache.get_many(&keys).await.into_values().unwrap();
    assert_eq!(
        many.iter().map(|one| one.as_ref().map(|value| **value)).collect::<Vec<_>>(),
        [Some(1), Some(2), None]
    );
    assert!(cache.expire(&one, Duration::from_secs(60)).await.unwrap());
    assert!(cache.ttl(&one).await.unwrap().is_some());
    assert!(cache.invalidate(&one).await.is_ok());
    assert!(cache.remove(&other).await.unwrap());
    assert_eq!(cache.get(&other).await.unwrap().map(|value| *value), None);
    assert_eq!(cache.stats().tiers.iter().map(|tier| tier.errors).sum::<u64>(), 0);
}

#[tokio::test]
async fn long_keys_work_on_every_stack() {
    let hand = Clock::manual();
    let near = || Builder::<String, u64, _>::new("types".to_owned(), Memory::entries(100)).clock(&hand);
    let far = || Builder::<String, u64, NoNear>::new("types".to_owned(), NoNear).clock(&hand);
    long_keys_work(&near().build().unwrap()).await;
    long_keys_work(&near().tier(fake("redis", &hand)).build().unwrap()).await;
    long_keys_work(&near().tier(fake("redis", &hand).with_log()).build().unwrap()).await;
    long_keys_work(&far().tier(fake("redis", &hand)).tier(fake("db", &hand)).build().unwrap()).await;
    long_keys_work(&near().tier(fake("redis", &hand)).store(fake("db", &hand)).build().unwrap()).await;
    long_keys_work(&far().store(fake("db", &hand)).level(Level::Strong).build().unwrap()).await;
    long_keys_work(&far().tier(fake("redis", &hand)).level(Level::Ttl).build().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_near_copy_of_a_long_key_ends_with_its_proof_since_the_log_cannot_name_it() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand).with_log();
    let near = |name: &str| {
        let stack = Builder::<String, u64, _>::new("types".to_owned(), Memory::entries(100)).clock(&hand);
        let _ = name;
        stack.tier(redis.another_handle()).build().unwrap()
    };
    let (here, there) = (near("here"), near("there"));
    let long = prompt("x");
    here.put(&long, 1).await.unwrap();
    assert_eq!(here.get(&long).await.unwrap().unwrap().served().from, Source::Near);
    there.put(&long, 2).await.unwrap();
    hand.advance(ms(1_100));
    tokio::time::advance(ms(1_100)).await;
    assert_eq!(here.get(&long).await.unwrap().map(|value| *value), Some(2), "after a second at most");
}

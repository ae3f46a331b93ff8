use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;
use serde::Deserialize;
use uuid::Uuid;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Empty,
    One(u8),
    Pair(i16, String),
    Named { id: Option<u64>, tags: Vec<String> },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Id(u32);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Compound {
    kind: Kind,
    id: Id,
    bytes: Vec<u8>,
    wide: (i128, u128),
    unit: (),
    flags: [u8; 4],
    letter: char,
    nested: Vec<Vec<Option<bool>>>,
    mixed: (u8, u8, String),
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encoded<K: Serialize + DeserializeOwned + Eq + 'static>(key: &K) -> String {
    hex(&encode_key(key).expect("a key"))
}

fn refusal<K: Serialize + DeserializeOwned + Eq + 'static>(key: &K) -> String {
    let error = encode_key(key).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::Key);
    error.to_string()
}

#[test]
fn the_table_of_the_module_is_true() {
    assert_eq!(encoded(&"a\r\n\0é".to_owned()), "610d0a00c3a9");
    assert_eq!(encoded(&String::new()), "");
    assert_eq!(encoded(&'é'), "c3a9");
    assert_eq!(encoded(&-2_i8), "fffffffffffffffe");
    assert_eq!(encoded(&7_u8), "0000000000000007");
    assert_eq!(encoded(&7_i32), encoded(&7_u64));
    assert_eq!(encoded(&u64::MAX), "ffffffffffffffff");
    assert_eq!(encoded(&-1_i128), "f".repeat(32));
    assert_eq!(encoded(&true), "01");
    assert_eq!(encoded(&Uuid::from_u128(0x0102)), format!("{}0102", "0".repeat(28)));
    assert_eq!(encoded(&vec![0xff_u8, 0]), "ff00");
    assert_eq!(encoded(&[1_u8, 2, 3]), "010203");
    assert_eq!(encoded(&Id(5)), encoded(&5));
    assert_eq!(encoded(&(1_u8, "x".to_owned())), "0000000800000000000000010000000178");
    assert_eq!(encoded(&vec![1_u16]), "000000080000000000000001");
    assert_eq!(encoded(&None::<u8>), "00");
    assert_eq!(encoded(&Some(1_u8)), "010000000000000001");
    assert_eq!(encoded(&Some(String::new())), "01");
    assert_eq!(encoded(&Kind::Empty), format!("00000005{}", hex(b"Empty")));
    assert_eq!(encoded(&Kind::One(1)), format!("00000003{}0000000000000001", hex(b"One")));
    assert_eq!(encoded(&()), "");
}

#[test]
fn a_key_beyond_the_limit_is_refused_with_the_way_out() {
    assert_eq!(encode_key(&"x".repeat(MAX_KEY_BYTES)).expect("fits").len(), MAX_KEY_BYTES);
    for refused in
        [refusal(&"x".repeat(MAX_KEY_BYTES + 1)), refusal(&vec![0_u8; 1 << 20]), refusal(&vec![(); 1025])]
    {
        assert!(refused.contains("Digest::of"), "{refused}");
    }
    let long = vec![b'x'; MAX_KEY_BYTES + 1];
    assert_eq!(decode_key::<String>(&long).expect_err("too long").kind(), ErrorKind::Key);
    assert_eq!(EncodedKey::from_bytes(long).expect_err("too long").kind(), ErrorKind::Key);
    let fits_as_bytes_alone = (1_u8, 1_u8, 1_u8, 1_u8, "x".repeat(MAX_KEY_BYTES - 51));
    assert!(encode_key(&(1_u8, 1_u8, 1_u8, 1_u8, "x".repeat(MAX_KEY_BYTES - 52))).is_ok());
    assert!(refusal(&fits_as_bytes_alone).contains("Digest::of"));
}

#[test]
fn a_skipped_field_is_refused_since_it_would_make_two_keys_one() {
    #[derive(PartialEq, Eq, Serialize, Deserialize)]
    struct Skips {
        a: u8,
        #[serde(skip)]
        b: u8,
    }
    assert_eq!(encoded(&Skips { a: 1, b: 0 }), "000000080000000000000001");
    assert!(refusal(&Skips { a: 1, b: 2 }).contains("does not decode to itself"));
}

#[test]
fn what_has_no_canonical_form_is_refused() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Float(f64);
    impl Eq for Float {}
    assert!(refusal(&Float(1.0)).contains("float"));
    assert!(refusal(&BTreeMap::from([(1, 2)])).contains("map"));
    assert_eq!(encoded(&BTreeSet::from([3_u8, 1])), "0103");
    assert!(refusal(&serde_json::json!([1])).contains("does not decode"));
}

#[test]
fn depth_is_limited_both_ways() {
    #[derive(PartialEq, Eq, Serialize, Deserialize)]
    struct Deep(Option<Box<Deep>>);
    let nest = |levels| (0..levels).fold(Deep(None), |inner, _| Deep(Some(Box::new(inner))));
    assert!(encode_key(&nest(20)).is_ok());
    assert!(refusal(&nest(1000)).contains("deeper"));
    let hostile = [1; MAX_KEY_BYTES];
    assert_eq!(decode_key::<Deep>(&hostile).err().map(|e| e.kind()), Some(ErrorKind::Key));
}

#[test]
fn bytes_of_another_shape_are_refused() {
    assert!(decode_key::<u8>(&256_u64.to_be_bytes()).is_err());
    assert!(decode_key::<i64>(b"1234567").is_err());
    assert!(decode_key::<bool>(&[2]).is_err());
    assert!(decode_key::<String>(&[0xff]).is_err());
    assert!(decode_key::<()>(&[0]).is_err());
    assert!(decode_key::<Option<String>>(b"").is_err());
    assert!(decode_key::<Option<String>>(b"\0x").is_err());
    assert!(decode_key::<(String, String)>(b"\0\0\0\x01a\0\0\0\x01b\0\0\0\x01c").is_err());
    assert!(decode_key::<(String, String)>(b"\0\0\0\x01a").is_err());
    assert!(decode_key::<(u8, String)>(b"ab").is_err());
    assert!(decode_key::<Vec<String>>(b"\xff\xff\xff\xffa").is_err());
    assert!(decode_key::<Kind>(b"\0\0\0\x04Nope").is_err());
}

#[test]
fn an_encoded_key_decodes_and_hides_its_text() {
    let key = EncodedKey::of(&"secret".to_owned()).expect("a key");
    assert_eq!(key.decode::<String>().expect("text"), "secret");
    assert_eq!(&key[..], b"secret");
    assert_eq!(format!("{key:?}"), "EncodedKey(6 bytes)");
    assert_eq!(EncodedKey::from_bytes(key.as_bytes().clone()).expect("short"), key);
}

#[test]
fn a_digest_is_a_key_of_32_bytes() {
    let digest = Digest::of("prompt").expect("a digest");
    assert_eq!(encoded(&digest), digest.to_string());
    assert_eq!(decode_key::<Digest>(digest.as_bytes()).expect("a digest"), digest);
    assert!(decode_key::<Digest>(&[0; 31]).is_err());
    let json = serde_json::to_string(&digest).expect("json");
    assert_eq!(json, format!("\"{digest}\""));
    assert_eq!(serde_json::from_str::<Digest>(&json).expect("hex"), digest);
    for wrong in ["\"\"", &format!("\"{digest}00\""), &format!("\"{}\"", "g".repeat(64)), "1"] {
        assert!(serde_json::from_str::<Digest>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_digest_is_pinned() {
    use sha2::Digest as _;
    let written = [b"t".as_slice(), &6_u64.to_be_bytes(), b"prompt"].concat();
    let expected: [u8; 32] = sha2::Sha256::digest(written).into();
    assert_eq!(Digest::of("prompt").expect("a digest").as_bytes(), &expected);
}

#[test]
fn values_that_differ_have_different_digests() {
    #[derive(Serialize)]
    struct Request<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        top: Option<u8>,
        #[serde(skip_serializing_if = "Option::is_none")]
        max: Option<u8>,
        content: Content<'a>,
        #[serde(flatten)]
        extra: HashMap<&'a str, f32>,
    }
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Content<'a> {
        Text(&'a str),
        Parts(Vec<&'a str>),
        Raw(Vec<u8>),
    }
    let request = |top, max, content, extra| {
        Digest::of(&Request { top, max, content, extra: HashMap::from_iter(extra) }).expect("a digest")
    };
    let digests = [
        request(None, None, Content::Text("x"), vec![]),
        request(Some(1), None, Content::Text("x"), vec![]),
        request(None, Some(1), Content::Text("x"), vec![]),
        request(None, None, Content::Raw(vec![b'x']), vec![]),
        request(None, None, Content::Parts(vec!["x"]), vec![]),
        request(None, None, Content::Parts(vec!["x", ""]), vec![]),
        request(None, None, Content::Text("x"), vec![("seed", 1.0)]),
        request(None, None, Content::Text("x"), vec![("seed", 2.0)]),
        Digest::of(&((1, 2), 3)).expect("a digest"),
        Digest::of(&(1, (2, 3))).expect("a digest"),
        Digest::of(&Some(())).expect("a digest"),
        Digest::of(&None::<()>).expect("a digest"),
        Digest::of(&u128::MAX).expect("a digest"),
        Digest::of(&-1).expect("a digest"),
    ];
    assert_eq!(digests.iter().collect::<BTreeSet<_>>().len(), digests.len());
}

#[test]
fn the_order_of_a_map_does_not_change_its_digest() {
    let pairs: Vec<_> = (0..100).map(|n| (n.to_string(), n)).collect();
    let forward: HashMap<_, _> = pairs.iter().cloned().collect();
    let backward: HashMap<_, _> = pairs.iter().rev().cloned().collect();
    assert_eq!(Digest::of(&forward).expect("a digest"), Digest::of(&backward).expect("a digest"));
}

#[test]
fn a_value_too_deep_for_a_digest_is_an_error() {
    #[derive(Serialize)]
    struct Deep(Option<Box<Deep>>);
    let deep = (0..1000).fold(Deep(None), |inner, _| Deep(Some(Box::new(inner))));
    assert_eq!(Digest::of(&deep).expect_err("too deep").kind(), ErrorKind::Key);
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        Just(Kind::Empty),
        any::<u8>().prop_map(Kind::One),
        (any::<i16>(), any::<String>()).prop_map(|(n, text)| Kind::Pair(n, text)),
        (any::<Option<u64>>(), proptest::collection::vec("[ab]{0,3}", 0..3))
            .prop_map(|(id, tags)| Kind::Named { id, tags }),
    ]
}

fn compounds() -> impl Strategy<Value = Compound> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..5);
    let nested = proptest::collection::vec(proptest::collection::vec(any::<Option<bool>>(), 0..3), 0..3);
    let rest = (any::<[u8; 4]>(), any::<char>(), nested, any::<(u8, u8, String)>());
    (kinds(), any::<u32>(), bytes, any::<(i128, u128)>(), rest).prop_map(
        |(kind, id, bytes, wide, (flags, letter, nested, mixed))| Compound {
            kind,
            id: Id(id),
            bytes,
            wide,
            unit: (),
            flags,
            letter,
            nested,
            mixed,
        },
    )
}

proptest! {
    #[test]
    fn every_key_decodes_to_itself(key in compounds()) {
        let bytes = encode_key(&key).expect("a key");
        prop_assert_eq!(decode_key::<Compound>(&bytes).expect("decodes"), key);
    }

    #[test]
    fn two_keys_never_share_their_bytes(a in kinds(), b in kinds()) {
        prop_assert_eq!(a == b, encode_key(&a).expect("a key") == encode_key(&b).expect("a key"));
    }

    #[test]
    fn integers_agree_across_widths(n: i32) {
        prop_assert_eq!(encode_key(&n).expect("a key"), encode_key(&i64::from(n)).expect("a key"));
    }

    #[test]
    fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..64), key in compounds()) {
        let _ = decode_key::<Compound>(&bytes);
        let good = encode_key(&key).expect("a key");
        let cut = bytes.len().min(good.len());
        bytes.splice(..cut, good[..cut].iter().copied());
        if let Ok(decoded) = decode_key::<Compound>(&bytes) {
            prop_assert_eq!(encode_key(&decoded).expect("a key"), bytes);
        }
    }
}

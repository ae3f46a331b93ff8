mod limits;

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::key::key_digest;

const KEY: KeyDigest = [7; 16];

fn codecs() -> Vec<Codec> {
    vec![
        Codec::Postcard,
        Codec::Json,
        #[cfg(feature = "bincode")]
        Codec::Bincode,
    ]
}

fn binary_codecs() -> impl Iterator<Item = Codec> {
    codecs().into_iter().filter(|codec| !codec.is_self_describing())
}

fn with<V: DeserializeOwned>(codec: Codec) -> Settings {
    Settings { codec, compression: Compression::None, ..Settings::of::<V>() }
}

/// An envelope with a right checksum around any payload.
fn forged<V: DeserializeOwned>(codec: Codec, payload: &[u8], compression: u8, raw_len: usize) -> Vec<u8> {
    let mut frame = [&[0; envelope::LEN], payload].concat();
    let header = Header {
        codec: codec.id(),
        compression,
        schema: 0,
        shape: Shape::of::<V>().fingerprint(),
        key: KEY,
        raw_len: raw_len as u32,
    };
    header.write(&mut frame, payload.len() as u32);
    frame
}

fn open_forged<V: DeserializeOwned>(codec: Codec, payload: &[u8]) -> Result<V, DecodeError> {
    let frame = forged::<V>(codec, payload, NOT_COMPRESSED, payload.len());
    open(&frame, &with::<V>(Codec::Postcard), KEY)
}

fn round_trip<V>(value: &V, settings: &Settings)
where
    V: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let bytes = seal(value, settings, KEY).expect("sealed");
    assert_eq!(open::<V>(&bytes, settings, KEY).as_ref(), Ok(value));
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    id: u64,
    name: String,
    score: f64,
    small: f32,
    parent: Option<Box<Record>>,
    kind: Kind,
    map: BTreeMap<String, i32>,
    wide: (i128, u128, char, bool),
    unit: (),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Text(String),
    Pair(i8, Vec<u8>),
    Fields { a: Option<u16>, b: Vec<Kind> },
}

fn kinds() -> impl Strategy<Value = Kind> {
    let leaf = prop_oneof![
        Just(Kind::Plain),
        any::<String>().prop_map(Kind::Text),
        (any::<i8>(), proptest::collection::vec(any::<u8>(), 0..4)).prop_map(|(n, v)| Kind::Pair(n, v)),
    ];
    leaf.prop_recursive(3, 8, 3, |inner| {
        (any::<Option<u16>>(), proptest::collection::vec(inner, 0..3))
            .prop_map(|(a, b)| Kind::Fields { a, b })
    })
}

fn records() -> impl Strategy<Value = Record> {
    let finite = proptest::num::f64::NORMAL | proptest::num::f64::ZERO | proptest::num::f64::SUBNORMAL;
    let single = proptest::num::f32::NORMAL | proptest::num::f32::ZERO | proptest::num::f32::SUBNORMAL;
    let map = proptest::collection::btree_map("\\PC{0,4}", any::<i32>(), 0..4);
    let rest = (map, any::<(i128, u128, char, bool)>());
    (any::<u64>(), "\\PC{0,300}", finite, single, kinds(), rest, any::<bool>()).prop_map(
        |(id, name, score, small, kind, (map, wide), nested)| {
            let record = Record { id, name, score, small, parent: None, kind, map, wide, unit: () };
            if nested { Record { parent: Some(Box::new(record.clone())), ..record } } else { record }
        },
    )
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let compression = prop_oneof![Just(Compression::None), Just(Compression::Lz4 { from_bytes: 0 })];
    let settings = Settings::of::<Record>();
    (proptest::sample::select(codecs()), compression).prop_map(move |(codec, compression)| Settings {
        codec,
        compression,
        ..settings
    })
}

proptest! {
    #[test]
    fn every_value_comes_back_whoever_reads_it(value in records(), writer in any_settings(), reader in any_settings()) {
        let bytes = seal(&value, &writer, KEY).expect("sealed");
        prop_assert_eq!(open::<Record>(&bytes, &reader, KEY), Ok(value));
    }

    #[test]
    fn a_changed_bit_or_a_cut_never_gives_a_value(
        value in records(), settings in any_settings(), at: proptest::sample::Index, bit in 0..8_u8,
    ) {
        let bytes = seal(&value, &settings, KEY).expect("sealed");
        let mut flipped = bytes.to_vec();
        let at = at.index(flipped.len());
        flipped[at] ^= 1 << bit;
        prop_assert!(open::<Record>(&flipped, &settings, KEY).is_err());
        prop_assert!(open::<Record>(&bytes[..at], &settings, KEY).is_err());
        flipped[at] ^= 1 << bit;
        flipped.push(bit);
        prop_assert_eq!(open::<Record>(&flipped, &settings, KEY), Err(DecodeError::Truncated));
    }

    #[test]
    fn hostile_payloads_never_panic(
        mut payload in proptest::collection::vec(any::<u8>(), 0..200), value in records(),
        settings in any_settings(), claim in 0..100_000_usize, compressed: bool,
    ) {
        // The payload is the first bytes of a real value, then random bytes, under a right checksum.
        let sealed = seal(&value, &settings, KEY).expect("sealed");
        let real = &sealed[envelope::LEN..];
        let cut = payload.len().min(real.len()) / 2;
        payload.splice(..cut, real[..cut].iter().copied());
        let compression = if compressed { LZ4 } else { NOT_COMPRESSED };
        let raw_len = if compressed { claim } else { payload.len() };
        for codec in codecs() {
            let frame = forged::<Record>(codec, &payload, compression, raw_len);
            let _ = open::<Record>(&frame, &settings, KEY);
        }
        prop_assert!(open::<Record>(&payload, &settings, KEY).is_err());
    }
}

#[test]
fn another_key_schema_or_shape_gives_no_value() {
    let settings = with::<(u32, u32)>(Codec::Postcard);
    let bytes = seal(&(1_u32, 2_u32), &settings, KEY).expect("sealed");
    let read = |settings: &Settings, key| open::<(u32, u32)>(&bytes, settings, key);
    assert_eq!(read(&settings, KEY), Ok((1, 2)));
    assert_eq!(read(&settings, key_digest("a", None, b"k")), Err(DecodeError::WrongKey));
    assert_eq!(
        read(&Settings { schema: 1, ..settings }, KEY),
        Err(DecodeError::Schema { found: 0, known: 1 })
    );
    let found = settings.shape.fingerprint();
    assert_eq!(read(&with::<(u32, u64)>(Codec::Postcard), KEY), Err(DecodeError::Shape { found }));
}

#[test]
fn a_renamed_optional_field_is_not_read_as_none_in_json_either() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        nick: Option<String>,
    }
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct New {
        nickname: Option<String>,
    }
    let bytes = seal(&Old { nick: Some("al".into()) }, &with::<Old>(Codec::Json), KEY).expect("sealed");
    let read = open::<New>(&bytes, &with::<New>(Codec::Json), KEY);
    assert!(matches!(read, Err(DecodeError::Shape { .. })), "{read:?}");
}

#[test]
fn foreign_bytes_and_newer_formats_are_told_apart() {
    let settings = with::<u8>(Codec::Postcard);
    let sealed = seal(&1_u8, &settings, KEY).expect("sealed");
    let read = |bytes: &[u8]| open::<u8>(bytes, &settings, KEY).expect_err("no value");
    assert_eq!(read(b""), DecodeError::Foreign);
    assert_eq!(read(b"{\"a\":1}"), DecodeError::Foreign);
    assert_eq!(read(&sealed[..20]), DecodeError::Truncated);
    let mut newer = sealed.to_vec();
    newer[4] = 2;
    assert_eq!(read(&newer), DecodeError::Format { found: 2 });
    let forge = |codec: u8, compression| {
        let mut frame = sealed.to_vec();
        let shape = settings.shape.fingerprint();
        Header { codec, compression, schema: 0, shape, key: KEY, raw_len: 1 }.write(&mut frame, 1);
        read(&frame)
    };
    assert_eq!(forge(9, 0), DecodeError::Codec { found: 9 });
    assert_eq!(forge(1, 9), DecodeError::Compression { found: 9 });
    assert!(forge(9, 0).is_unknown_here() && !read(b"").is_unknown_here());
    let error = Error::from(DecodeError::WrongKey);
    assert_eq!(error.kind(), ErrorKind::Undecodable);
    assert!(error.to_string().contains("another key"));
}

#[test]
fn a_longer_header_and_optional_flags_of_a_later_version_are_skipped() {
    let settings = with::<u8>(Codec::Postcard);
    let sealed = seal(&5_u8, &settings, KEY).expect("sealed");
    let resum = |frame: &mut Vec<u8>| {
        let sum = crc32c::crc32c_append(crc32c::crc32c(&frame[..46]), &frame[50..]);
        frame[46..50].copy_from_slice(&sum.to_be_bytes());
    };
    let mut later = sealed.to_vec();
    later.splice(50..50, *b"later");
    later[8..10].copy_from_slice(&55_u16.to_be_bytes());
    later[7] = 0x80;
    resum(&mut later);
    assert_eq!(open::<u8>(&later, &settings, KEY), Ok(5));
    later[7] = 0x01;
    resum(&mut later);
    assert_eq!(open::<u8>(&later, &settings, KEY), Err(DecodeError::Flags { found: 1 }));
}

#[test]
fn values_of_no_bytes_and_of_64_mib_come_back() {
    for codec in codecs() {
        round_trip(&(), &with::<()>(codec));
        round_trip(&Vec::<u8>::new(), &with::<Vec<u8>>(codec));
        round_trip(&String::new(), &with::<String>(codec));
        round_trip(&vec![(); 60_000], &with::<Vec<()>>(codec));
        round_trip(&vec![0x5a_u8; 1 << 18], &with::<Vec<u8>>(codec));
        round_trip(&HashMap::from([(1_u8, None::<u8>)]), &with::<HashMap<u8, Option<u8>>>(codec));
    }
    let large = "x".repeat(64 << 20);
    round_trip(&large, &with::<String>(Codec::Postcard));
    round_trip(&large, &Settings::of::<String>());
    let bytes = seal(&large, &Settings::of::<String>(), KEY).expect("sealed");
    assert!(bytes.len() < 1 << 20, "not compressed");
}

#[test]
fn a_value_above_the_limit_is_refused_while_it_is_written_and_read() {
    for codec in codecs() {
        let settings = Settings { max_bytes: 100, ..with::<Vec<u32>>(codec) };
        let error = seal(&vec![7_u32; 1000], &settings, KEY).expect_err("too large");
        assert_eq!(error.kind(), ErrorKind::TooLarge);
        let bytes = seal(&vec![7_u32; 1000], &with::<Vec<u32>>(codec), KEY).expect("sealed");
        assert_eq!(open::<Vec<u32>>(&bytes, &settings, KEY), Err(DecodeError::TooLarge));
    }
}

#[test]
fn compression_is_kept_only_where_it_is_smaller() {
    let sealed = |value: &[u8], from_bytes| {
        let compression = Compression::Lz4 { from_bytes };
        let settings = Settings { compression, ..with::<String>(Codec::Json) };
        let text = String::from_utf8(value.to_vec()).expect("text");
        let bytes = seal(&text, &settings, KEY).expect("sealed");
        assert_eq!(open::<String>(&bytes, &settings, KEY), Ok(text));
        (bytes[6], bytes.len())
    };
    assert_eq!(sealed(&[b'a'; 1022], 1024).0, LZ4);
    assert_eq!(sealed(&[b'a'; 1021], 1024), (NOT_COMPRESSED, envelope::LEN + 1023));
    assert_eq!(sealed(b"abcdefgh", 0), (NOT_COMPRESSED, envelope::LEN + 10));
}

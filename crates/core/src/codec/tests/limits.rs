//! The limits hold when reading and writing, for any claims in the bytes.

use super::*;

#[test]
fn a_few_bytes_that_claim_a_gibibyte_allocate_nothing() {
    // The lengths 2^30 and 2^62 as postcard and bincode write them: as a varint, and each of them as 8
    // bytes.
    let claims: [&[u8]; 4] = [
        b"\x80\x80\x80\x80\x04xxxxxxxx",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x40xxxx",
        b"\xfd\0\0\0\x40\0\0\0\0xxxx",
        b"\xfd\0\0\0\0\0\0\0\x40xxxx",
    ];
    for codec in binary_codecs() {
        for claim in claims {
            assert!(open_forged::<String>(codec, claim).is_err());
            assert!(open_forged::<Vec<u8>>(codec, claim).is_err());
            assert!(open_forged::<Vec<()>>(codec, claim).is_err());
            assert!(open_forged::<Vec<Vec<u64>>>(codec, claim).is_err());
            assert!(open_forged::<HashMap<(), ()>>(codec, claim).is_err());
            assert!(open_forged::<serde_bytes_like::Buffer>(codec, claim).is_err());
            assert!(open_forged::<greedy::Greedy>(codec, claim).is_err());
        }
    }
    let frame = forged::<String>(Codec::Postcard, b"0123456789abc", LZ4, 60 << 20);
    assert_eq!(open::<String>(&frame, &Settings::of::<String>(), KEY), Err(DecodeError::TooLarge));
}

/// A byte buffer that asks serde for owned bytes, as `serde_bytes` does.
mod serde_bytes_like {
    use serde::{Deserialize, Deserializer, de};

    #[derive(Debug, PartialEq)]
    pub(super) struct Buffer(pub(super) Vec<u8>);

    impl<'de> Deserialize<'de> for Buffer {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_byte_buf(Visitor)
        }
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Buffer;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Buffer, E> {
            Ok(Buffer(bytes.to_vec()))
        }
    }
}

/// A sequence that trusts the claimed length, which the sequences of serde do not.
mod greedy {
    use serde::{Deserialize, Deserializer, de};

    #[derive(Debug, PartialEq)]
    pub(super) struct Greedy(Vec<u64>);

    impl<'de> Deserialize<'de> for Greedy {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_seq(Visitor)
        }
    }

    struct Visitor;

    impl<'de> de::Visitor<'de> for Visitor {
        type Value = Greedy;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("numbers")
        }

        fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Greedy, A::Error> {
            let claimed = seq.size_hint().unwrap_or(0);
            assert!(claimed <= 1 << 17, "claims {claimed}");
            let mut numbers = Vec::with_capacity(claimed);
            while let Some(number) = seq.next_element()? {
                numbers.push(number);
            }
            Ok(Greedy(numbers))
        }
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Nest(Vec<Nest>);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Chain {
    End,
    Link(Box<Chain>),
    Fields { next: Box<Chain> },
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Opt(Option<Box<Opt>>);

#[test]
fn a_million_nested_values_are_refused_and_overflow_no_stack() {
    for codec in binary_codecs() {
        let ones = vec![1; 1_000_000];
        assert_eq!(open_forged::<Nest>(codec, &ones), Err(DecodeError::Limit));
        assert_eq!(open_forged::<Chain>(codec, &ones), Err(DecodeError::Limit));
        assert_eq!(open_forged::<Chain>(codec, &vec![2; 1_000_000]), Err(DecodeError::Limit));
        assert_eq!(open_forged::<Opt>(codec, &ones), Err(DecodeError::Limit));
    }
    assert!(open_forged::<Nest>(Codec::Json, &b"[".repeat(1_000_000)).is_err());
    assert!(open_forged::<Chain>(Codec::Json, &b"{\"Link\":".repeat(1_000_000)).is_err());
    assert!(open_forged::<serde_json::Value>(Codec::Json, &b"[".repeat(1_000_000)).is_err());
}

#[test]
fn a_sequence_of_units_that_claims_2_to_the_60_ends_at_once() {
    for codec in binary_codecs() {
        let claim: &[u8] = match codec {
            Codec::Postcard => b"\x80\x80\x80\x80\x80\x80\x80\x80\x10",
            _ => b"\xfd\0\0\0\0\0\0\0\x10",
        };
        assert_eq!(open_forged::<Vec<()>>(codec, claim), Err(DecodeError::Limit));
        assert_eq!(open_forged::<HashMap<(), ()>>(codec, claim), Err(DecodeError::Limit));
    }
}

#[test]
fn whatever_is_written_can_be_read_at_every_limit() {
    fn deepest<V>(codec: Codec, build: impl Fn(usize) -> V)
    where
        V: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
    {
        let settings = with::<V>(codec);
        let mut refused = 0;
        for depth in 0..140 {
            match seal(&build(depth), &settings, KEY) {
                Ok(bytes) => assert_eq!(open(&bytes, &settings, KEY), Ok(build(depth)), "{codec:?} {depth}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Unencodable);
                    refused += 1;
                }
            }
        }
        assert!((1..120).contains(&refused), "{refused} refused");
    }
    for codec in codecs() {
        deepest(codec, |depth| (0..depth).fold(Nest(vec![]), |inner, _| Nest(vec![inner])));
        deepest(codec, |depth| (0..depth).fold(Chain::End, |inner, _| Chain::Link(Box::new(inner))));
        deepest(codec, |depth| (0..depth).fold(Chain::End, |next, _| Chain::Fields { next: Box::new(next) }));
    }
    for codec in binary_codecs() {
        deepest(codec, |depth| (0..depth).fold(Opt(None), |inner, _| Opt(Some(Box::new(inner)))));
        let error = seal(&vec![(); 70_000], &with::<Vec<()>>(codec), KEY).expect_err("too many");
        assert_eq!(error.kind(), ErrorKind::Unencodable);
    }
}

#[test]
fn a_codec_refuses_what_it_would_read_as_something_else() {
    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Skips {
        #[serde(skip_serializing_if = "Option::is_none")]
        a: Option<u8>,
        b: Option<u8>,
    }
    let refused = |error: Error| {
        assert_eq!(error.kind(), ErrorKind::Unencodable);
        error.to_string()
    };
    for codec in binary_codecs() {
        let error = seal(&Skips { a: None, b: Some(1) }, &with::<Skips>(codec), KEY).expect_err("skipped");
        assert!(refused(error).contains("Codec::Json"));
        round_trip(&f64::INFINITY, &with::<f64>(codec));
        round_trip(&Some(None::<u8>), &with::<Option<Option<u8>>>(codec));
        let value = serde_json::json!({"a": 1});
        let error = seal(&value, &with::<serde_json::Value>(codec), KEY).expect_err("any");
        assert!(refused(error).contains("Codec::Json"));
    }
    round_trip(&Skips { a: None, b: Some(1) }, &with::<Skips>(Codec::Json));
    round_trip(&serde_json::json!({"a": [1, null, "x"]}), &with::<serde_json::Value>(Codec::Json));
    let nothing = [
        seal(&f64::NAN, &with::<f64>(Codec::Json), KEY),
        seal(&f32::INFINITY, &with::<f32>(Codec::Json), KEY),
        seal(&Some(None::<u8>), &with::<Option<Option<u8>>>(Codec::Json), KEY),
        seal(&Some(()), &with::<Option<()>>(Codec::Json), KEY),
    ];
    for error in nothing {
        assert!(refused(error.expect_err("null")).contains("null"));
    }
    let keys = BTreeMap::from([((1, 2), 3)]);
    let error = seal(&keys, &with::<BTreeMap<(u8, u8), u8>>(Codec::Json), KEY).expect_err("key");
    assert!(refused(error).contains("key must be a string"));
}

#[test]
fn leftover_bytes_are_no_part_of_a_value() {
    for codec in codecs() {
        let settings = with::<u8>(codec);
        let sealed = seal(&1_u8, &settings, KEY).expect("sealed");
        let longer = [&sealed[envelope::LEN..], b"1x"].concat();
        assert_eq!(open_forged::<u8>(codec, &longer), Err(DecodeError::Payload));
    }
}

//! Keys of any bytes and of any length work, up to a bound beyond which a key is refused before any trip.

use terrace::{
    BoxError, Cache, ErrorKind, Memory,
    key::{MAX_KEY_BYTES, MAX_LONG_KEY_BYTES},
};

use super::stacks::{Backends, Stack};

fn odd_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        &b""[..],
        b"\0",
        b"a\0b",
        b"a",
        b"\r\n",
        b"k\r\nSET other 1\r\n",
        b"*1\r\n$4\r\nPING\r\n",
        b"'; drop schema terrace cascade; --",
        b"{tag}:%00 #*?[a]",
        b"\xff\xfe\x80",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        "ключ 🔑".as_bytes(),
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    keys.extend([128, 129, 2_705, MAX_KEY_BYTES, MAX_KEY_BYTES + 1].map(|length| vec![b'x'; length]));
    keys
}

async fn every_key_is_its_own(cache: &Stack<Vec<u8>, usize>) {
    let keys = odd_keys();
    for (number, key) in keys.iter().enumerate() {
        cache.put(key, number).await.unwrap();
    }
    for (number, key) in keys.iter().enumerate() {
        let loaded = cache.get_or_load(key, async || Ok::<_, BoxError>(usize::MAX)).await.unwrap();
        assert_eq!(loaded, number, "{key:?} of {cache:?}");
    }
    cache.settled().await;
    let found = cache.get_many(&keys).await.into_values().unwrap();
    for (number, found) in found.into_iter().enumerate() {
        assert_eq!(found.unwrap(), number);
    }
    for (number, key) in keys.iter().enumerate() {
        assert!(cache.remove(key).await.unwrap());
        assert!(cache.get(key).await.unwrap().is_none());
        if let Some(next) = keys.get(number + 1) {
            assert_eq!(cache.get(next).await.unwrap().unwrap(), number + 1);
        }
    }
}

#[tokio::test]
async fn empty_nul_crlf_and_non_utf8_keys_are_keys_of_their_own() {
    let backends = Backends::new().await;
    for cache in backends.all(std::convert::identity).await {
        every_key_is_its_own(&cache).await;
    }
}

#[tokio::test]
async fn a_key_of_a_hundred_kibibytes_works_on_every_stack() {
    let backends = Backends::new().await;
    let (one, other) = ("q".repeat(100 << 10), "r".repeat(100 << 10));
    for cache in backends.all::<String, usize>(std::convert::identity).await {
        assert_eq!(cache.get_or_load(&one, async || Ok::<_, BoxError>(1)).await.unwrap(), 1, "{cache:?}");
        cache.put(&other, 2).await.unwrap();
        cache.settled().await;
        let keys = [one.clone(), "short".to_owned(), other.clone()];
        let found = cache.get_many(&keys).await.into_values().unwrap();
        assert_eq!(
            found.iter().map(|one| one.as_ref().map(|found| **found)).collect::<Vec<_>>(),
            [Some(1), None, Some(2)]
        );
        assert!(cache.remove(&one).await.unwrap());
        assert!(cache.get(&one).await.unwrap().is_none());
        assert_eq!(cache.get(&other).await.unwrap().unwrap(), 2);
        assert!(cache.stats().tiers.iter().all(|tier| tier.errors == 0));
    }
}

#[tokio::test]
async fn a_key_of_more_than_16_mebibytes_is_a_key_error_that_quotes_no_key() {
    let backends = Backends::new().await;
    let key = "q".repeat(MAX_LONG_KEY_BYTES + 1);
    for cache in backends.all::<String, usize>(std::convert::identity).await {
        let errors = [
            cache.get(&key).await.map(drop).unwrap_err(),
            cache.put(&key, 1).await.map(drop).unwrap_err(),
            cache.put_if_absent(&key, 1).await.map(drop).unwrap_err(),
            cache.get_or_load(&key, async || Ok::<_, BoxError>(1)).await.map(drop).unwrap_err(),
            cache.remove(&key).await.map(drop).unwrap_err(),
            cache.invalidate(&key).await.map(drop).unwrap_err(),
            cache.ttl(&key).await.map(drop).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Key, "{error:?}");
            assert!(!format!("{error} {error:?}").contains("qq"), "a key may be personal data");
        }
        // The other keys of a batch are not lost with it.
        let keys = ["good".to_owned(), key.clone(), "fine".to_owned()];
        let put = cache.put_many(keys.iter().cloned().zip([1_usize, 2, 3])).await;
        assert!(put[0].is_ok() && put[2].is_ok());
        assert_eq!(put[1].as_ref().unwrap_err().kind(), ErrorKind::Key);
        let found: Vec<_> = cache
            .get_or_load_many(&keys, async |missing| Ok::<_, BoxError>(missing.zip([1_usize, 3])))
            .await
            .into_iter()
            .collect();
        assert_eq!(found[1].as_ref().unwrap_err().kind(), ErrorKind::Key);
        assert_eq!(*found[0].as_ref().unwrap().clone().unwrap(), 1);
        assert_eq!(*found[2].as_ref().unwrap().clone().unwrap(), 3);
        assert_eq!(cache.stats().flights, 0);
    }
    // A cache without remote tiers sends no keys, so a key of any length works there.
    let local: Cache<String, usize> = Cache::builder("local").near(Memory::entries(5)).build().unwrap();
    local.put(&key, 1).await.unwrap();
    assert_eq!(local.get(&key).await.unwrap().unwrap(), 1);
}

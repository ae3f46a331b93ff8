//! A key as shared tiers see it, and the digest under which they keep it.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A key as shared tiers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TierKey {
    /// The encoded key: at most 4 KiB.
    pub bytes: Bytes,
    /// The digest of namespace, tenant and key: indexes and envelopes carry it.
    pub digest: KeyDigest,
}

/// A key of a cache as other processes and servers know it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyName {
    /// The name of the cache.
    pub namespace: String,
    /// The tenant of the key, where the cache is built per tenant.
    pub tenant: Option<String>,
    /// The encoded key.
    pub key: Bytes,
}

/// A key's address within all namespaces and tenants: 16 bytes.
pub type KeyDigest = [u8; 16];

/// A namespace, and a tenant in it, ready to digest keys.
///
/// Cheap to clone and meant to be kept: it holds the hash of everything before the key.
#[derive(Clone, Debug)]
pub struct Scope(Sha256);

impl Scope {
    /// The scope of `tenant` in `namespace`. No tenant and the empty tenant are two scopes.
    pub fn new(namespace: &str, tenant: Option<&str>) -> Self {
        let mut hasher = Sha256::new();
        update(&mut hasher, namespace.as_bytes());
        hasher.update([u8::from(tenant.is_some())]);
        update(&mut hasher, tenant.unwrap_or_default().as_bytes());
        Self(hasher)
    }

    /// The digest of an encoded key, as [`key_digest`] has it.
    ///
    /// Cost: one or two blocks of SHA-256 for a key of up to 100 bytes; no allocation.
    pub fn digest(&self, key: &[u8]) -> KeyDigest {
        let mut hasher = self.0.clone();
        update(&mut hasher, key);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize()[..16]);
        digest
    }
}

/// The first 16 bytes of SHA-256 over namespace, tenant and encoded key, each after its length.
///
/// In bytes: length of the namespace (4, big-endian), namespace; `01` with a tenant, else `00`;
/// length of the tenant (4; zero without one), tenant; length of the key (4), key. So namespace
/// `a` with key `b:c` is never `a:b` with `c`. For several keys of one namespace keep a [`Scope`].
///
/// Postgres makes the same, for a key `k` (bytea) of the namespace `users` without a tenant:
///
/// ```sql
/// substring(sha256(
///     int4send(5) || convert_to('users', 'UTF8') || '\x00'::bytea || int4send(0)
///     || int4send(octet_length(k)) || k
/// ) FROM 1 FOR 16)
/// ```
pub fn key_digest(namespace: &str, tenant: Option<&str>, key: &[u8]) -> KeyDigest {
    Scope::new(namespace, tenant).digest(key)
}

/// Hashes a part after its length. Parts are keys of at most 4 KiB and names far below 4 GiB.
fn update(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u32).to_be_bytes());
    hasher.update(part);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_digest_is_pinned() {
        let mut bytes = Vec::new();
        for part in [&[0, 0, 0, 5][..], b"users", &[1, 0, 0, 0, 2], b"t1", &[0, 0, 0, 3], b"ann"] {
            bytes.extend_from_slice(part);
        }
        assert_eq!(key_digest("users", Some("t1"), b"ann")[..], Sha256::digest(&bytes)[..16]);
        let hex: String = key_digest("users", None, b"ann").iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "7a705f75240bd929cb9053296ee000c9");
    }

    #[test]
    fn no_tenant_is_not_the_empty_tenant() {
        assert_ne!(key_digest("a", None, b"k"), key_digest("a", Some(""), b"k"));
    }

    proptest! {
        #[test]
        fn moving_a_border_between_the_parts_changes_the_digest(
            text in "[ab:]{0,8}", a in 0..9_usize, b in 0..9_usize, c in 0..9_usize, d in 0..9_usize,
        ) {
            let split = |x: usize, y: usize| {
                let (x, y) = (x.min(text.len()), y.min(text.len()));
                (&text[..x.min(y)], &text[x.min(y)..x.max(y)], &text[x.max(y)..])
            };
            let (left, right) = (split(a, b), split(c, d));
            let digest = |(n, t, k): (&str, &str, &str)| key_digest(n, Some(t), k.as_bytes());
            prop_assert_eq!(left == right, digest(left) == digest(right));
        }
    }
}

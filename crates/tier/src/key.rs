//! A key as shared tiers see it, and the digest under which they keep it.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// A key as shared tiers see it: the bytes, and the address that is computed from them.
///
/// It has these two fields and gets no others: what a tier must know beside the key is in its
/// [`Namespace`](crate::Namespace) or in the operation.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TierKey {
    /// The encoded key, of at most 4 KiB; or the marker and the SHA-256 of a longer one.
    pub bytes: Bytes,
    /// The digest of namespace, tenant and key, which indexes and envelopes carry.
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

/// A namespace, with or without a tenant, that is ready to digest keys.
///
/// It holds the hash of everything that precedes the key. It is cheap to clone, and meant to be kept.
#[derive(Clone, Debug)]
pub struct Scope(Sha256);

impl Scope {
    /// The scope of `tenant` in `namespace`. No tenant and the empty tenant are different scopes.
    pub fn new(namespace: &str, tenant: Option<&str>) -> Self {
        let mut hasher = Sha256::new();
        update(&mut hasher, namespace.as_bytes());
        hasher.update([u8::from(tenant.is_some())]);
        update(&mut hasher, tenant.unwrap_or_default().as_bytes());
        Self(hasher)
    }

    /// The digest of an encoded key, the same as [`key_digest`] gives.
    ///
    /// # Cost
    /// One or two blocks of SHA-256 for a key of up to 100 bytes. No allocation.
    pub fn digest(&self, key: &[u8]) -> KeyDigest {
        let mut hasher = self.0.clone();
        update(&mut hasher, key);
        let mut digest = [0; 16];
        digest.copy_from_slice(&hasher.finalize()[..16]);
        digest
    }
}

/// The first 16 bytes of SHA-256 over namespace, tenant and encoded key, each of them after its length.
///
/// The hashed bytes are: the length of the namespace (4 bytes, big-endian) and the namespace; `01` with a
/// tenant or `00` without one; the length of the tenant (4 bytes, zero without one) and the tenant; the
/// length of the key (4 bytes) and the key. Because of the lengths, namespace `a` with key `b:c` and
/// namespace `a:b` with key `c` have different digests. For several keys of one namespace, keep a
/// [`Scope`].
///
/// Postgres computes the same digest for a key `k` (bytea) of the namespace `users` without a tenant:
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

/// Hashes the length of a part, then the part. Keys have at most 4 KiB, and names are far below 4 GiB.
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

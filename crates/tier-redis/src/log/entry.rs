//! The bytes of a log entry: the scripts append them, and the reader decodes them.
//!
//! | length | content | written by |
//! |---|---|---|
//! | 1 | `K` a key, `C` a clear | the script |
//! | 8 | version, 0 for none | the script |
//! | 8 | a random number, so that no two entries are equal | the script |
//! | 8 | the origin: the follower that need not be notified, 0 for none | the tier |
//! | 2, and that many | the length of the namespace, and the namespace | the tier |
//! | 2, and that many | the length of the tenant, and the tenant; only `ffff` for none | the tier |
//! | rest | key | the tier |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use terrace_tier::{Namespace, Notice, Version};

const NO_TENANT: u16 = u16::MAX;

/// The end of an entry, from the origin on: the tier knows it before the script runs. A namespace has at
/// most 128 bytes and a tenant at most 256, so both lengths fit.
pub(crate) fn entry_tail(origin: u64, namespace: &Namespace, key: &[u8]) -> Bytes {
    let tenant = namespace.tenant.as_deref();
    let names = namespace.name.len() + tenant.map_or(0, str::len);
    let mut tail = BytesMut::with_capacity(12 + names + key.len());
    tail.put_u64(origin);
    tail.put_u16(namespace.name.len() as u16);
    tail.put_slice(namespace.name.as_bytes());
    tail.put_u16(tenant.map_or(NO_TENANT, |tenant| tenant.len() as u16));
    tail.put_slice(tenant.unwrap_or_default().as_bytes());
    tail.put_slice(key);
    tail.freeze()
}

/// One entry of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) origin: u64,
    pub(super) namespace: String,
    pub(super) notice: Notice,
}

impl Entry {
    /// `None` for bytes that this version of the library did not write.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let version = Version::from_u64(bytes.try_get_u64().ok()?);
        let _nonce = bytes.try_get_u64().ok()?;
        let origin = bytes.try_get_u64().ok()?;
        let length = bytes.try_get_u16().ok()?;
        let namespace = take_text(&mut bytes, length)?;
        let tenant = match bytes.try_get_u16().ok()? {
            NO_TENANT => None,
            length => Some(take_text(&mut bytes, length)?),
        };
        let notice = match kind {
            b'K' => {
                let version = (version != Version::NONE).then_some(version);
                Notice::Key { tenant, key: bytes, version }
            }
            b'C' => Notice::Clear { tenant },
            _ => return None,
        };
        Some(Self { origin, namespace, notice })
    }

    /// Whether this follower made the change and need not be notified. It must be notified of a change with
    /// a version, because a write that it gave up may have reached the server later.
    pub(super) fn is_known_to(&self, follower: u64) -> bool {
        self.origin == follower && !matches!(self.notice, Notice::Key { version: Some(_), .. })
    }
}

fn take_text(bytes: &mut Bytes, length: u16) -> Option<String> {
    let length = usize::from(length);
    let part = (bytes.len() >= length).then(|| bytes.split_to(length))?;
    String::from_utf8(part.into()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terrace_tier::Role;

    use super::*;

    fn appended(kind: u8, version: u64, tail: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind);
        bytes.put_u64(version);
        bytes.put_u64(99);
        bytes.put_slice(tail);
        bytes.freeze()
    }

    fn namespace(tenant: Option<&str>) -> Namespace {
        Namespace::new("users", Role::Cache)
            .with_tenant(tenant.map(Into::into))
            .with_budget(Duration::from_millis(50))
    }

    #[test]
    fn an_entry_is_decoded_from_its_bytes() {
        for tenant in [None, Some(""), Some("acme")] {
            let entry =
                Entry::decode(appended(b'K', 7, &entry_tail(3, &namespace(tenant), b"\0key"))).unwrap();
            let (key, version) = (Bytes::from_static(b"\0key"), Some(Version::from_u64(7)));
            let tenant = tenant.map(str::to_owned);
            assert_eq!(entry.notice, Notice::Key { tenant, key, version });
            assert_eq!((entry.origin, &*entry.namespace), (3, "users"));
        }
        let clear = Entry::decode(appended(b'C', 0, &entry_tail(3, &namespace(None), b""))).unwrap();
        assert_eq!(clear.notice, Notice::Clear { tenant: None });
    }

    #[test]
    fn a_writer_is_not_notified_of_its_own_invalidation() {
        let own =
            |version| Entry::decode(appended(b'K', version, &entry_tail(3, &namespace(None), b"k"))).unwrap();
        assert!(own(0).is_known_to(3) && !own(0).is_known_to(4));
        assert!(!own(7).is_known_to(3), "a late put must be notified");
    }

    #[test]
    fn truncated_and_foreign_bytes_are_no_entry() {
        let whole = appended(b'K', 7, &entry_tail(3, &namespace(Some("acme")), b""));
        for end in 0..whole.len() {
            assert_eq!(Entry::decode(whole.slice(..end)), None, "{end}");
        }
        assert_eq!(Entry::decode(appended(b'?', 7, &entry_tail(3, &namespace(None), b"k"))), None);
    }
}

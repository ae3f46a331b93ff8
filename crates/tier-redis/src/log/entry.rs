//! The bytes of a log entry: the scripts append them, and the reader decodes them.
//!
//! | length | content | written by |
//! |---|---|---|
//! | 1 | `K` keys, `C` a clear | the script |
//! | 8 | a random number, so that no two entries are equal | the script |
//! | 8 | the origin: the follower that need not be notified, 0 for none | the tier |
//! | 2, and that many | the length of the namespace, and the namespace | the tier |
//! | 2, and that many | the length of the tenant, and the tenant; only `ffff` for none | the tier |
//! | 8 | for each key: its version, 0 for none | the script |
//! | 4, and that many | for each key: its length, and the key | the tier |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use terrace_tier::{Namespace, Notice, Version};

const NO_TENANT: u16 = u16::MAX;

/// The part of an entry from the origin to the tenant: the tier knows it before the script runs. A namespace has at
/// most 128 bytes and a tenant at most 256, so both lengths fit.
pub(crate) fn entry_head(origin: u64, namespace: &Namespace) -> Bytes {
    let tenant = namespace.tenant.as_deref();
    let mut head = BytesMut::with_capacity(12 + namespace.name.len() + tenant.map_or(0, str::len));
    head.put_u64(origin);
    head.put_u16(namespace.name.len() as u16);
    head.put_slice(namespace.name.as_bytes());
    head.put_u16(tenant.map_or(NO_TENANT, |tenant| tenant.len() as u16));
    head.put_slice(tenant.unwrap_or_default().as_bytes());
    head.freeze()
}

/// One entry of the log: the changes of one namespace and tenant that one call made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) origin: u64,
    pub(super) namespace: String,
    pub(super) notices: Vec<Notice>,
}

impl Entry {
    /// `None` for bytes that this version of the library did not write.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let _nonce = bytes.try_get_u64().ok()?;
        let origin = bytes.try_get_u64().ok()?;
        let length = bytes.try_get_u16().ok()?;
        let namespace = take_text(&mut bytes, length)?;
        let tenant = match bytes.try_get_u16().ok()? {
            NO_TENANT => None,
            length => Some(take_text(&mut bytes, length)?),
        };
        let notices = match kind {
            b'K' => keys_in(bytes, &tenant)?,
            b'C' if bytes.is_empty() => vec![Notice::Clear { tenant }],
            _ => return None,
        };
        Some(Self { origin, namespace, notices })
    }

    /// Whether this follower made the change and need not be notified. It must be notified of a change with
    /// a version, because a write that it gave up may have reached the server later.
    pub(super) fn is_known_to(&self, follower: u64, notice: &Notice) -> bool {
        self.origin == follower && !matches!(notice, Notice::Key { version: Some(_), .. })
    }
}

/// The changes of keys, of which there is at least one.
fn keys_in(mut bytes: Bytes, tenant: &Option<String>) -> Option<Vec<Notice>> {
    let mut notices = Vec::with_capacity(1);
    loop {
        let version = Version::from_u64(bytes.try_get_u64().ok()?);
        let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
        let key = (bytes.len() >= length).then(|| bytes.split_to(length))?;
        let version = (version != Version::NONE).then_some(version);
        notices.push(Notice::Key { tenant: tenant.clone(), key, version });
        if bytes.is_empty() {
            return Some(notices);
        }
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

    fn appended(kind: u8, namespace: &Namespace, keys: &[(u64, &[u8])]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind);
        bytes.put_u64(99);
        bytes.put_slice(&entry_head(3, namespace));
        for (version, key) in keys {
            bytes.put_u64(*version);
            bytes.put_u32(key.len() as u32);
            bytes.put_slice(key);
        }
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
                Entry::decode(appended(b'K', &namespace(tenant), &[(7, b"\0key"), (0, b"")])).unwrap();
            let tenant = tenant.map(str::to_owned);
            let notice = |key, version: Option<u64>| Notice::Key {
                tenant: tenant.clone(),
                key: Bytes::from_static(key),
                version: version.map(Version::from_u64),
            };
            assert_eq!(entry.notices, [notice(b"\0key", Some(7)), notice(b"", None)]);
            assert_eq!((entry.origin, &*entry.namespace), (3, "users"));
        }
        let clear = Entry::decode(appended(b'C', &namespace(None), &[])).unwrap();
        assert_eq!(clear.notices, [Notice::Clear { tenant: None }]);
    }

    #[test]
    fn a_writer_is_not_notified_of_its_own_invalidation() {
        let own = Entry::decode(appended(b'K', &namespace(None), &[(0, b"k"), (7, b"k")])).unwrap();
        let [invalidation, put] = &own.notices[..] else { panic!("{own:?}") };
        assert!(own.is_known_to(3, invalidation) && !own.is_known_to(4, invalidation));
        assert!(!own.is_known_to(3, put), "a late put must be notified");
    }

    #[test]
    fn truncated_and_foreign_bytes_are_no_entry() {
        let whole = appended(b'K', &namespace(Some("acme")), &[(7, b"a"), (8, b"bc")]);
        let first = whole.len() - 8 - 4 - 2;
        for end in (0..whole.len()).filter(|end| *end != first) {
            assert_eq!(Entry::decode(whole.slice(..end)), None, "{end}");
        }
        assert_eq!(Entry::decode(appended(b'?', &namespace(None), &[(7, b"k")])), None);
        assert_eq!(Entry::decode(appended(b'C', &namespace(None), &[(7, b"k")])), None);
    }
}

//! The log's entries as bytes: what the scripts append and the follower reads.
//!
//! | length | content | written by |
//! |---|---|---|
//! | 1 | `K` a key, `C` a clear | the script |
//! | 8 | version, 0 for none | the script |
//! | 8 | a random number: no two entries are alike | the script |
//! | 8 | the follower that need not be told, 0 for none | the tier |
//! | 2, then so many | namespace | the tier |
//! | 2, then so many | tenant; `ffff` and nothing for none | the tier |
//! | rest | key | the tier |

use bytes::{Buf, BufMut, Bytes, BytesMut};
use terrace_tier::{Namespace, Notice, Version};

const NO_TENANT: u16 = u16::MAX;

/// The part of an entry that the tier knows before the script runs. Namespaces have at most 128
/// bytes, tenants at most 256.
pub(crate) fn note(origin: u64, space: &Namespace, key: &[u8]) -> Bytes {
    let tenant = space.tenant.as_deref();
    let names = space.name.len() + tenant.map_or(0, str::len);
    let mut note = BytesMut::with_capacity(12 + names + key.len());
    note.put_u64(origin);
    note.put_u16(space.name.len() as u16);
    note.put_slice(space.name.as_bytes());
    note.put_u16(tenant.map_or(NO_TENANT, |tenant| tenant.len() as u16));
    note.put_slice(tenant.unwrap_or_default().as_bytes());
    note.put_slice(key);
    note.freeze()
}

/// One entry of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) origin: u64,
    pub(super) namespace: String,
    pub(super) notice: Notice,
}

impl Entry {
    /// `None` for bytes that no tier of this version appended.
    pub(super) fn read(mut bytes: Bytes) -> Option<Self> {
        let kind = bytes.try_get_u8().ok()?;
        let version = Version::from_u64(bytes.try_get_u64().ok()?);
        let _nonce = bytes.try_get_u64().ok()?;
        let origin = bytes.try_get_u64().ok()?;
        let length = bytes.try_get_u16().ok()?;
        let namespace = text(&mut bytes, length)?;
        let tenant = match bytes.try_get_u16().ok()? {
            NO_TENANT => None,
            length => Some(text(&mut bytes, length)?),
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

    /// Whether the follower that made the change has nothing to learn from it. It has where a
    /// version was given: its write may have been late, and landed after it was given up.
    pub(super) fn is_known_to(&self, follower: u64) -> bool {
        self.origin == follower && !matches!(self.notice, Notice::Key { version: Some(_), .. })
    }
}

fn text(bytes: &mut Bytes, length: u16) -> Option<String> {
    let length = usize::from(length);
    let part = (bytes.len() >= length).then(|| bytes.split_to(length))?;
    String::from_utf8(part.into()).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use terrace_tier::{Level, Role};

    use super::*;

    fn appended(kind: u8, version: u64, note: &[u8]) -> Bytes {
        let mut bytes = BytesMut::new();
        bytes.put_u8(kind);
        bytes.put_u64(version);
        bytes.put_u64(99);
        bytes.put_slice(note);
        bytes.freeze()
    }

    fn space(tenant: Option<&str>) -> Namespace {
        Namespace::new("users".into(), Role::Cache)
            .with_tenant(tenant.map(Into::into))
            .with_budget(Duration::from_millis(50))
    }

    #[test]
    fn an_entry_comes_back_from_its_bytes() {
        for tenant in [None, Some(""), Some("acme")] {
            let entry = Entry::read(appended(b'K', 7, &note(3, &space(tenant), b"\0key"))).unwrap();
            let (key, version) = (Bytes::from_static(b"\0key"), Some(Version::from_u64(7)));
            let tenant = tenant.map(str::to_owned);
            assert_eq!(entry.notice, Notice::Key { tenant, key, version });
            assert_eq!((entry.origin, &*entry.namespace), (3, "users"));
        }
        let clear = Entry::read(appended(b'C', 0, &note(3, &space(None), b""))).unwrap();
        assert_eq!(clear.notice, Notice::Clear { tenant: None });
    }

    #[test]
    fn a_writer_need_not_hear_of_what_it_dropped() {
        let own = |version| Entry::read(appended(b'K', version, &note(3, &space(None), b"k"))).unwrap();
        assert!(own(0).is_known_to(3) && !own(0).is_known_to(4));
        assert!(!own(7).is_known_to(3), "a put that came late must be heard");
    }

    #[test]
    fn cut_and_foreign_bytes_are_no_entry() {
        let whole = appended(b'K', 7, &note(3, &space(Some("acme")), b""));
        for end in 0..whole.len() {
            assert_eq!(Entry::read(whole.slice(..end)), None, "{end}");
        }
        assert_eq!(Entry::read(appended(b'?', 7, &note(3, &space(None), b"k"))), None);
    }
}

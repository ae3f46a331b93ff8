//! The names of the keys in Redis.
//!
//! | key | holds |
//! |---|---|
//! | `{prefix}:{namespace}:{key}` | a cell |
//! | `{prefix}:{namespace}@{tenant}:{key}` | a cell of a tenant |
//! | `{prefix}:$ttl:{namespace}[@{tenant}]:{key}` | a cell of a cache of level `Ttl` |
//! | `{prefix}:$epoch:{namespace}[@{tenant}]` | the epoch, 8 bytes; `$ttl-epoch` for level `Ttl` |
//! | `{prefix}:$epoch:{namespace}@*` | that of all tenants: a tenant's cells carry the exclusive or of both |
//! | `{prefix}:$log`, `{prefix}:$log-head` | the invalidation log: a stream, and its id and last number |
//! | `{prefix}:$waits:{token}` | the inboxes of the processes that wait for a lease |
//! | `{prefix}:$sign:{token}` | a lease's sign of life: `A` its holder is alive, `F` it was given back |
//! | `{prefix}:terrace.relay:{namespace}` | the relay's mark: a cell |
//! | `{prefix}:$terms:{namespace}` | the terms of use, while a process that registered them lives |
//!
//! Announcements go to the channel `{prefix}:$inbox:{number}` of a process.
//!
//! Namespaces and tenants keep letters, digits, `_`, `-` and `.`; all else is written `%XX`, and so
//! no part runs into the next. Keys that are short printable text stay as they are, with `%XX` for
//! what would not read well (`% # { } " \`, spaces and controls); long and binary keys become
//! `#` and the digest in hex. Every key is built here, and scripts get all of theirs as arguments,
//! so that a hash tag for a cluster can be added in one place.

use std::fmt::Write as _;

use bytes::Bytes;
use terrace_tier::{Level, Namespace, TierKey, Token, Watermark};

/// Longer keys become a digest.
const READABLE_BYTES: usize = 128;

/// The keys of one namespace and tenant.
#[derive(Debug)]
pub(crate) struct Layout {
    cells: String,
    /// The epoch of this namespace and tenant.
    pub(crate) epoch: String,
    /// The epoch of all tenants, where there is one.
    pub(crate) common: Option<String>,
    /// And where this is none: a clear changes it too.
    tenants: Option<String>,
    /// The relay's mark, at the level that asks for it.
    pub(crate) mark: Option<Bytes>,
    pub(crate) terms: String,
    leases: LeaseKeys,
}

/// The keys beside the cell of a lease that is waited for, or that is worked on for long.
#[derive(Clone, Debug)]
pub(crate) struct LeaseKeys(String);

impl Layout {
    pub(crate) fn new(prefix: &str, space: &Namespace) -> Self {
        let namespace = escape(&space.name);
        let owner = match &space.tenant {
            Some(tenant) => format!("{namespace}@{}", escape(tenant)),
            None => namespace.clone(),
        };
        let (cells, epochs) = match space.level {
            Level::Ttl => ("$ttl:", "$ttl-epoch"),
            _ => ("", "$epoch"),
        };
        let everyones = format!("{prefix}:{epochs}:{namespace}@*");
        let (common, tenants) = match space.tenant {
            Some(_) => (Some(everyones), None),
            None => (None, Some(everyones)),
        };
        let marked = matches!(space.level, Level::Bounded(_));
        let mark = marked.then(|| mark(prefix, space));
        Self {
            cells: format!("{prefix}:{cells}{owner}:"),
            epoch: format!("{prefix}:{epochs}:{owner}"),
            common,
            tenants,
            mark,
            terms: format!("{prefix}:$terms:{namespace}"),
            leases: LeaseKeys::new(prefix),
        }
    }

    /// The Redis key of a cell.
    pub(crate) fn cell(&self, key: &TierKey) -> Bytes {
        let text = readable(&key.bytes);
        // Exact for plain text: bytes without room to spare take one piece of memory, not two.
        let mut name = String::with_capacity(self.cells.len() + text.map_or(33, str::len));
        name.push_str(&self.cells);
        match text {
            Some(text) => push_escaped(&mut name, text, is_plain_in_key),
            None => {
                name.push('#');
                for byte in key.digest.as_ref() {
                    push_hex(&mut name, *byte);
                }
            }
        }
        name.into()
    }

    /// The same for another namespace or tenant.
    pub(crate) fn of(&self, space: &Namespace) -> Self {
        Self::new(&self.leases.0, space)
    }

    /// What scripts are given of epochs: the owner's, and that of all tenants or again the owner's.
    pub(crate) fn epochs(&self) -> [Bytes; 2] {
        let own = Bytes::copy_from_slice(self.epoch.as_bytes());
        let common = self.common.as_ref().map(|common| Bytes::copy_from_slice(common.as_bytes()));
        [own.clone(), common.unwrap_or(own)]
    }

    /// The epochs that a clear changes.
    pub(crate) fn cleared(&self) -> Vec<Bytes> {
        let epochs = [&self.epoch].into_iter().chain(&self.tenants);
        epochs.map(|key| Bytes::copy_from_slice(key.as_bytes())).collect()
    }

    /// The key of the inboxes that wait for a lease.
    pub(crate) fn waiters(&self, token: Token) -> Bytes {
        self.leases.waiters(token)
    }

    /// A glob for SCAN that matches the cells of this namespace and tenant, and no others: escaped
    /// names hold no characters of a pattern.
    pub(crate) fn cells_pattern(&self) -> String {
        format!("{}*", self.cells)
    }
}

impl LeaseKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self(prefix.to_owned())
    }

    pub(crate) fn waiters(&self, token: Token) -> Bytes {
        format!("{}:$waits:{:016x}", self.0, token.as_u64()).into()
    }

    pub(crate) fn sign(&self, token: Token) -> Bytes {
        format!("{}:$sign:{:016x}", self.0, token.as_u64()).into()
    }

    /// The channel of a process.
    pub(crate) fn inbox(&self, number: u64) -> String {
        format!("{}:$inbox:{number:016x}", self.0)
    }
}

fn mark(prefix: &str, space: &Namespace) -> Bytes {
    Layout::new(prefix, &Watermark::namespace(space)).cell(&Watermark::key(&space.name))
}

/// Whether `prefix` keeps the parts of a key apart.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    !prefix.is_empty() && prefix.len() <= 64 && prefix.chars().all(|c| c.is_ascii() && is_plain_in_name(c))
}

fn readable(key: &[u8]) -> Option<&str> {
    let text = (key.len() <= READABLE_BYTES).then(|| std::str::from_utf8(key).ok()).flatten()?;
    (!text.chars().any(char::is_control)).then_some(text)
}

fn escape(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    push_escaped(&mut escaped, name, is_plain_in_name);
    escaped
}

fn is_plain_in_name(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

fn is_plain_in_key(c: char) -> bool {
    c.is_alphanumeric() || (c.is_ascii_graphic() && !matches!(c, '%' | '#' | '{' | '}' | '"' | '\\'))
}

fn push_escaped(out: &mut String, text: &str, is_plain: fn(char) -> bool) {
    if text.bytes().all(|byte| byte.is_ascii() && is_plain(char::from(byte))) {
        return out.push_str(text);
    }
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push('%');
                push_hex(out, byte);
            }
        }
    }
}

fn push_hex(out: &mut String, byte: u8) {
    // Writing to a String cannot fail.
    let _infallible = write!(out, "{byte:02x}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use terrace_tier::Role;
    use terrace_tier::key::key_digest;

    use super::*;

    fn space(namespace: &str, tenant: Option<&str>, level: Level) -> Namespace {
        Namespace::new(namespace.into(), Role::Cache)
            .with_tenant(tenant.map(Into::into))
            .with_level(level)
            .with_budget(Duration::from_millis(50))
    }

    fn name(namespace: &str, tenant: Option<&str>, key: &[u8]) -> String {
        let layout = Layout::new("terrace", &space(namespace, tenant, Level::Fenced));
        let bytes = Bytes::copy_from_slice(key);
        let digest = key_digest(namespace, tenant, key);
        String::from_utf8(layout.cell(&TierKey { bytes, digest }).to_vec()).unwrap()
    }

    #[test]
    fn short_text_stays_readable() {
        assert_eq!(name("users", None, b"42"), "terrace:users:42");
        assert_eq!(name("users", Some("acme"), b"mail:a@b.c"), "terrace:users@acme:mail:a@b.c");
        assert_eq!(name("users", None, "é x".as_bytes()), "terrace:users:é%20x");
        assert_eq!(name("a:b", Some("c@d"), b""), "terrace:a%3ab@c%40d:");
    }

    #[test]
    fn long_and_binary_keys_become_marked_digests() {
        for key in [&[0u8, 1][..], &[0xff], b"line\r\n", &[b'x'; 129]] {
            let name = name("users", None, key);
            assert!(name.starts_with("terrace:users:#"), "{name}");
            assert_eq!(name.len(), "terrace:users:#".len() + 32);
        }
    }

    #[test]
    fn the_keys_of_the_library_are_no_cells() {
        for level in [Level::Fenced, Level::Ttl] {
            let layout = Layout::new("terrace", &space("users", Some("acme"), level));
            let cells = layout.cells_pattern();
            let cells = cells.trim_end_matches('*');
            assert!(!layout.epoch.starts_with(cells) && !layout.terms.starts_with(cells));
        }
        assert!(name("$ttl", None, b"users:1").starts_with("terrace:%24ttl:"));
    }

    #[test]
    fn prefixes_are_plain_names() {
        assert!(is_prefix("terrace") && is_prefix("app-2.cache_x"));
        for prefix in ["", "a:b", "a b", "{tag}", "é", &"x".repeat(65)] {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }

    /// Parts made of the characters that could run into each other.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof!["[ab:@%#$*]{0,4}", "\\PC{0,6}"]
    }

    proptest! {
        #[test]
        fn no_two_keys_share_a_name(
            a in (part(), prop::option::of(part()), prop_oneof![part().prop_map(String::into_bytes), any::<Vec<u8>>()]),
            b in (part(), prop::option::of(part()), prop_oneof![part().prop_map(String::into_bytes), any::<Vec<u8>>()]),
        ) {
            let names = (name(&a.0, a.1.as_deref(), &a.2), name(&b.0, b.1.as_deref(), &b.2));
            prop_assert_eq!(a == b, names.0 == names.1, "{:?}", names);
        }

        #[test]
        fn a_pattern_matches_its_own_namespace_alone(
            a in (part(), prop::option::of(part())),
            b in (part(), prop::option::of(part())),
            key in part(),
        ) {
            let layout = Layout::new("terrace", &space(&a.0, a.1.as_deref(), Level::Fenced));
            let pattern = layout.cells_pattern();
            let name = name(&b.0, b.1.as_deref(), key.as_bytes());
            prop_assert_eq!(a == b, name.starts_with(pattern.trim_end_matches('*')));
            prop_assert!(!pattern.trim_end_matches('*').contains(['*', '?', '[', ']', '\\']));
        }
    }
}

//! The names of the keys in Redis.
//!
//! | key | content |
//! |---|---|
//! | `{prefix}:{namespace}:{key}` | a cell |
//! | `{prefix}:{namespace}@{tenant}:{key}` | a cell of a tenant |
//! | `{prefix}:$ttl:{namespace}[@{tenant}]:{key}` | a cell of a cache of level `Ttl` |
//! | `{prefix}:$epoch:{namespace}[@{tenant}]` | the epoch, 8 bytes; `$ttl-epoch` at level `Ttl` |
//! | `{prefix}:$epoch:{namespace}@*` | the epoch of all tenants; a tenant's cells hold it XOR the tenant's own |
//! | `{prefix}:$log`, `{prefix}:$log-head` | the invalidation log: a stream, and its id and last number |
//! | `{prefix}:$waits:{token}` | the channels of the processes that wait for a lease |
//! | `{prefix}:$sign:{token}` | the keep-alive of a lease: `A` its holder is alive, `F` its holder released it |
//! | `{prefix}:terrace.relay:{namespace}` | the relay's watermark: a cell |
//! | `{prefix}:$terms:{namespace}` | the options of the namespace, while a process that registered them runs |
//! | `{prefix}:$stats:{group}` | a hash of counters that all processes share; it ends 400 days after the last sum |
//! | `{prefix}:$sweep` | the number of the process that frees dead cells, for seconds |
//! | `{prefix}:$ready:{number}:..` | what `ready` writes and deletes; else it ends after ten seconds |
//!
//! A process receives lease notifications on the channel `{prefix}:$inbox:{number}`.
//!
//! Names of namespaces and tenants keep letters, digits, `_`, `-` and `.`. All other characters become
//! `%XX`, so the parts of a key stay apart. Short printable keys stay readable, with `%XX` for
//! `% # { } " \`, spaces and control characters. Long and binary keys become `#` and the digest in hex.
//! Every key is built here and begins with the prefix, and scripts get all their keys as arguments. So a prefix in
//! braces is the hash tag of all keys of a handle: they are in one slot.

use std::fmt::Write as _;

use bytes::Bytes;
use terrace_tier::{Level, Namespace, TierKey, Token, Watermark};

/// A longer key becomes a digest.
const READABLE_BYTES: usize = 128;

/// The keys of one namespace and tenant.
#[derive(Debug)]
pub(crate) struct Layout {
    /// The prefix of the cells.
    cells: String,
    /// The epoch of this namespace and tenant.
    pub(crate) epoch: String,
    /// The epoch of all tenants, if the namespace has a tenant.
    pub(crate) shared_epoch: Option<String>,
    /// The epoch of all tenants, if the namespace has no tenant: a clear changes it too.
    tenants_epoch: Option<String>,
    /// The relay's watermark, at level `Bounded`.
    pub(crate) watermark: Option<Bytes>,
    pub(crate) options: String,
    leases: LeaseKeys,
}

/// The keys beside the cell of a lease: the channels of the waiting processes, and the keep-alive.
#[derive(Clone, Debug)]
pub(crate) struct LeaseKeys {
    prefix: String,
}

/// The keys of the invalidation log.
#[derive(Debug)]
pub(crate) struct LogKeys {
    pub(crate) head: Bytes,
    pub(crate) entries: Bytes,
}

impl Layout {
    pub(crate) fn new(prefix: &str, namespace: &Namespace) -> Self {
        let name = escape(&namespace.name);
        let owner = match &namespace.tenant {
            Some(tenant) => format!("{name}@{}", escape(tenant)),
            None => name.clone(),
        };
        let (cells, epochs) = match namespace.level {
            Level::Ttl => ("$ttl:", "$ttl-epoch"),
            _ => ("", "$epoch"),
        };
        let all_tenants = format!("{prefix}:{epochs}:{name}@*");
        let (shared_epoch, tenants_epoch) = match namespace.tenant {
            Some(_) => (Some(all_tenants), None),
            None => (None, Some(all_tenants)),
        };
        let has_watermark = matches!(namespace.level, Level::Bounded(_));
        Self {
            cells: format!("{prefix}:{cells}{owner}:"),
            epoch: format!("{prefix}:{epochs}:{owner}"),
            shared_epoch,
            tenants_epoch,
            watermark: has_watermark.then(|| watermark(prefix, namespace)),
            options: format!("{prefix}:$terms:{name}"),
            leases: LeaseKeys::new(prefix),
        }
    }

    /// The key of a cell.
    pub(crate) fn cell(&self, key: &TierKey) -> Bytes {
        let text = readable(&key.bytes);
        // The capacity is exact for plain text: `Bytes` then takes over the string's allocation.
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

    /// The layout of another namespace or tenant under the same prefix.
    pub(crate) fn for_namespace(&self, namespace: &Namespace) -> Self {
        Self::new(&self.leases.prefix, namespace)
    }

    /// The two epochs that every script takes: this tenant's own, and the epoch of all tenants or, without
    /// a tenant, its own again.
    pub(crate) fn epochs(&self) -> [Bytes; 2] {
        let own = Bytes::copy_from_slice(self.epoch.as_bytes());
        let shared = self.shared_epoch.as_ref().map(|shared| Bytes::copy_from_slice(shared.as_bytes()));
        [own.clone(), shared.unwrap_or(own)]
    }

    /// The epochs that a clear changes.
    pub(crate) fn clear_epochs(&self) -> Vec<Bytes> {
        let epochs = [&self.epoch].into_iter().chain(&self.tenants_epoch);
        epochs.map(|key| Bytes::copy_from_slice(key.as_bytes())).collect()
    }

    /// The epoch that a clear of all tenants changes.
    pub(crate) fn widest_epoch(&self) -> &str {
        self.shared_epoch.as_deref().unwrap_or(&self.epoch)
    }

    /// The key of the channels of the processes that wait for a lease.
    pub(crate) fn waiters(&self, token: Token) -> Bytes {
        self.leases.waiters(token)
    }

    /// What the names of the cells of this namespace and tenant begin with, and no other name. It holds no
    /// characters of a pattern.
    pub(crate) fn cells(&self) -> &str {
        &self.cells
    }
}

impl LeaseKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(crate) fn waiters(&self, token: Token) -> Bytes {
        format!("{}:$waits:{:016x}", self.prefix, token.as_u64()).into()
    }

    pub(crate) fn keep_alive(&self, token: Token) -> Bytes {
        format!("{}:$sign:{:016x}", self.prefix, token.as_u64()).into()
    }

    /// The channel of a process.
    pub(crate) fn channel(&self, number: u64) -> String {
        format!("{}:$inbox:{number:016x}", self.prefix)
    }
}

impl LogKeys {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { head: format!("{prefix}:$log-head").into(), entries: format!("{prefix}:$log").into() }
    }
}

/// The hash of a group of counters.
pub(crate) fn counters_key(prefix: &str, group: &str) -> Bytes {
    format!("{prefix}:$stats:{group}").into()
}

/// The mark of the process that frees dead cells.
pub(crate) fn sweep_lock(prefix: &str) -> Bytes {
    format!("{prefix}:$sweep").into()
}

/// The [`Layout::cells`] of the cell with this name, if it is the name of a cell.
pub(crate) fn cells_of(name: &[u8]) -> Option<&str> {
    let parts = if name.splitn(3, |byte| *byte == b':').nth(1)? == b"$ttl" { 3 } else { 2 };
    let mut colons = name.iter().enumerate().filter(|(_, byte)| **byte == b':');
    let (last, _) = colons.nth(parts - 1)?;
    std::str::from_utf8(&name[..=last]).ok()
}

/// The prefix of the keys that one examination by `ready` writes.
pub(crate) fn ready_prefix(prefix: &str, number: u64) -> String {
    format!("{prefix}:$ready:{number:016x}")
}

fn watermark(prefix: &str, namespace: &Namespace) -> Bytes {
    Layout::new(prefix, &Watermark::namespace(namespace)).cell(&Watermark::key(&namespace.name))
}

/// Whether `prefix` keeps the parts of a key apart. Braces around it make it the hash tag of all keys.
pub(crate) fn is_prefix(prefix: &str) -> bool {
    let tag = prefix.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    let name = tag.unwrap_or(prefix);
    !name.is_empty() && prefix.len() <= 64 && name.chars().all(|c| c.is_ascii() && is_plain_in_name(c))
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
    use terrace_tier::{Role, key_digest};

    use super::*;

    fn namespace(name: &str, tenant: Option<&str>, level: Level) -> Namespace {
        Namespace::new(name, Role::Cache)
            .with_tenant(tenant.map(Into::into))
            .with_level(level)
            .with_budget(Duration::from_millis(50))
    }

    fn cell_name(name: &str, tenant: Option<&str>, key: &[u8]) -> String {
        let layout = Layout::new("terrace", &namespace(name, tenant, Level::Fenced));
        let bytes = Bytes::copy_from_slice(key);
        let digest = key_digest(name, tenant, key);
        String::from_utf8(layout.cell(&TierKey { bytes, digest }).to_vec()).unwrap()
    }

    #[test]
    fn short_text_stays_readable() {
        assert_eq!(cell_name("users", None, b"42"), "terrace:users:42");
        assert_eq!(cell_name("users", Some("acme"), b"mail:a@b.c"), "terrace:users@acme:mail:a@b.c");
        assert_eq!(cell_name("users", None, "é x".as_bytes()), "terrace:users:é%20x");
        assert_eq!(cell_name("a:b", Some("c@d"), b""), "terrace:a%3ab@c%40d:");
    }

    #[test]
    fn long_and_binary_keys_become_marked_digests() {
        for key in [&[0u8, 1][..], &[0xff], b"line\r\n", &[b'x'; 129]] {
            let name = cell_name("users", None, key);
            assert!(name.starts_with("terrace:users:#"), "{name}");
            assert_eq!(name.len(), "terrace:users:#".len() + 32);
        }
    }

    #[test]
    fn the_keys_of_the_library_are_no_cells() {
        for level in [Level::Fenced, Level::Ttl] {
            let layout = Layout::new("terrace", &namespace("users", Some("acme"), level));
            let cells = layout.cells();
            assert!(!layout.epoch.starts_with(cells) && !layout.options.starts_with(cells));
        }
        assert!(cell_name("$ttl", None, b"users:1").starts_with("terrace:%24ttl:"));
    }

    #[test]
    fn the_cells_of_level_ttl_are_told_from_others() {
        let layout = Layout::new("terrace", &namespace("users", Some("acme"), Level::Ttl));
        assert_eq!(layout.cells(), "terrace:$ttl:users@acme:");
        assert_eq!(cells_of(b"terrace:$ttl:users@acme:a:b"), Some(layout.cells()));
        assert_eq!(cells_of(b"terrace:$log"), None);
    }

    #[test]
    fn prefixes_are_plain_names() {
        assert!(is_prefix("terrace") && is_prefix("app-2.cache_x") && is_prefix("{shop}"));
        for prefix in
            ["", "a:b", "a b", "{}", "{tag", "tag}", "a{tag}", "{a}b", "{{a}}", "é", &"x".repeat(65)]
        {
            assert!(!is_prefix(prefix), "{prefix}");
        }
    }

    #[test]
    fn a_prefix_in_braces_is_the_only_hash_tag_of_every_key() {
        for level in [Level::Fenced, Level::Ttl, Level::Bounded(Duration::from_secs(1))] {
            let layout = Layout::new("{shop}", &namespace("a{b}", Some("c{d}"), level));
            let bytes = Bytes::from_static(b"e{f}");
            let cell = layout.cell(&TierKey { digest: key_digest("a{b}", Some("c{d}"), &bytes), bytes });
            let (log, leases) = (LogKeys::new("{shop}"), LeaseKeys::new("{shop}"));
            let token = Token::from_u64(7);
            let mut keys = vec![cell, log.head, log.entries, leases.waiters(token), leases.keep_alive(token)];
            keys.extend(layout.epochs().into_iter().chain(layout.clear_epochs()).chain(layout.watermark));
            keys.push(layout.options.into());
            for key in keys {
                let key = String::from_utf8(key.to_vec()).unwrap();
                assert!(key.starts_with("{shop}:") && key.matches(['{', '}']).count() == 2, "{key}");
            }
        }
    }

    /// Names made of the characters that separate the parts of a key.
    fn part() -> impl Strategy<Value = String> {
        prop_oneof!["[ab:@%#$*]{0,4}", "\\PC{0,6}"]
    }

    proptest! {
        #[test]
        fn no_two_keys_share_a_name(
            a in (part(), prop::option::of(part()), prop_oneof![part().prop_map(String::into_bytes), any::<Vec<u8>>()]),
            b in (part(), prop::option::of(part()), prop_oneof![part().prop_map(String::into_bytes), any::<Vec<u8>>()]),
        ) {
            let names = (cell_name(&a.0, a.1.as_deref(), &a.2), cell_name(&b.0, b.1.as_deref(), &b.2));
            prop_assert_eq!(a == b, names.0 == names.1, "{:?}", names);
        }

        #[test]
        fn the_beginning_of_a_name_is_that_of_its_own_namespace_alone(
            a in (part(), prop::option::of(part())),
            b in (part(), prop::option::of(part())),
            key in part(),
        ) {
            let layout = Layout::new("terrace", &namespace(&a.0, a.1.as_deref(), Level::Fenced));
            let name = cell_name(&b.0, b.1.as_deref(), key.as_bytes());
            prop_assert_eq!(a == b, name.starts_with(layout.cells()));
            prop_assert_eq!(a == b, cells_of(name.as_bytes()) == Some(layout.cells()));
            prop_assert!(!layout.cells().contains(['*', '?', '[', ']', '\\']));
        }
    }
}

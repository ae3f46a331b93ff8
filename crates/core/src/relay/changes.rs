//! Notices in the log of the source of truth name the copies that a relay must drop.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::{
    Invalidation, Notice, Publication, TierKey, Version,
    defence::{Defence, enabled},
    key,
};

/// The most bytes of keys in one step. A server reads all keys of a step before it does anything else.
const MAX_STEP_BYTES: usize = 2 << 20;

/// The changes of a namespace since the last step, by tenant. The map is sorted, so that the same
/// changes always make the same step.
#[derive(Debug, Default)]
pub(super) struct PendingChanges<'a>(BTreeMap<Option<&'a str>, TenantChanges<'a>>);

/// The changes of one tenant.
#[derive(Debug, Default)]
pub(super) struct TenantChanges<'a> {
    /// Whether all copies of the tenant are to be dropped. For the tenant `None`, all copies of all
    /// tenants are to be dropped.
    pub(super) all: bool,
    /// The changed keys. The version of a changed key is the first version whose copies may stay.
    keys: BTreeMap<&'a Bytes, Option<Version>>,
}

impl<'a> PendingChanges<'a> {
    /// A change of every copy of every tenant.
    pub(super) fn everything() -> Self {
        Self::of(&[Notice::Clear { tenant: None }])
    }

    pub(super) fn of(notices: &'a [Notice]) -> Self {
        let mut tenants: BTreeMap<Option<&str>, TenantChanges<'_>> = BTreeMap::new();
        for notice in notices {
            match notice {
                Notice::Key { tenant, key, version } => {
                    let keys = &mut tenants.entry(tenant.as_deref()).or_default().keys;
                    // The newest version of a key wins. The version `None` lets no copy stay, so it
                    // counts as newer than any version.
                    keys.entry(key)
                        .and_modify(|known| *known = known.zip(*version).map(|(known, new)| known.max(new)))
                        .or_insert(*version);
                }
                Notice::Clear { tenant } => tenants.entry(tenant.as_deref()).or_default().all = true,
                Notice::Lost | _ => tenants.entry(None).or_default().all = true,
            }
        }
        Self(tenants)
    }

    pub(super) fn tenants(&self) -> impl Iterator<Item = (Option<&'a str>, &TenantChanges<'a>)> {
        self.0.iter().map(|(tenant, changed)| (*tenant, changed))
    }

    /// The clears and the drops of one step. A step with too many keys clears all copies instead.
    pub(super) fn clears_and_drops(&self, namespace: &str) -> (Vec<Option<String>>, Vec<Invalidation>) {
        let all = self.0.get(&None).is_some_and(|changed| changed.all);
        let keys = || self.0.values().filter(|changed| !changed.all).flat_map(|changed| changed.keys.keys());
        let bytes: usize = keys().map(|key| key.len()).sum();
        if all || keys().count() > Publication::MAX_DROPS || bytes > MAX_STEP_BYTES {
            let all = all || enabled(Defence::TooMany);
            return (if all { vec![None] } else { Vec::new() }, Vec::new());
        }
        let clears = self.tenants().filter(|(_, changed)| changed.all);
        let drops = self.tenants().filter(|(_, changed)| !changed.all).flat_map(|(tenant, changed)| {
            let drop = move |(key, version)| Invalidation { tenant: tenant.map(str::to_owned), key, version };
            changed.drops(namespace, tenant).map(drop)
        });
        (clears.map(|(tenant, _)| tenant.map(str::to_owned)).collect(), drops.collect())
    }
}

impl TenantChanges<'_> {
    /// The changed keys. The version of a changed key is the first version whose copies may stay.
    pub(super) fn drops(
        &self,
        namespace: &str,
        tenant: Option<&str>,
    ) -> impl Iterator<Item = (TierKey, Option<Version>)> {
        let scope = key::Scope::new(namespace, tenant);
        self.keys.iter().map(move |(&bytes, &version)| {
            (TierKey { digest: scope.digest(bytes), bytes: bytes.clone() }, version)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_key(tenant: Option<&str>, key: u32, version: Option<u64>) -> Notice {
        let key = Bytes::copy_from_slice(&key.to_be_bytes());
        Notice::Key { tenant: tenant.map(str::to_owned), key, version: version.map(Version::from_u64) }
    }

    fn step(notices: &[Notice]) -> (Vec<Option<String>>, Vec<Invalidation>) {
        PendingChanges::of(notices).clears_and_drops("users")
    }

    #[test]
    fn a_key_is_dropped_once_for_its_newest_version() {
        for (versions, newest) in
            [([Some(2), Some(3)], Some(3)), ([Some(3), None], None), ([None, Some(3)], None)]
        {
            let notices = versions.map(|version| of_key(None, 1, version));
            let (clears, drops) = step(&notices);
            assert!(clears.is_empty());
            let versions: Vec<_> = drops.iter().map(|drop| drop.version).collect();
            assert_eq!(versions, [newest.map(Version::from_u64)]);
        }
    }

    #[test]
    fn a_clear_takes_the_place_of_drops() {
        let clear = |tenant: Option<&str>| Notice::Clear { tenant: tenant.map(str::to_owned) };
        let notices = [of_key(Some("a"), 1, None), of_key(Some("b"), 1, None), clear(Some("a"))];
        let (clears, drops) = step(&notices);
        assert_eq!(clears, [Some("a".to_owned())]);
        assert_eq!(drops.iter().map(|drop| drop.tenant.as_deref()).collect::<Vec<_>>(), [Some("b")]);
        for everyone in [clear(None), Notice::Lost] {
            assert_eq!(step(&[notices.as_slice(), &[everyone]].concat()), (vec![None], Vec::new()));
        }
    }

    #[test]
    fn more_keys_than_a_step_takes_are_a_clear() {
        let most = Publication::MAX_DROPS as u32;
        let keys: Vec<_> = (0..=most).map(|key| of_key(Some("a"), key, None)).collect();
        assert_eq!(step(&keys[1..]).1.len(), Publication::MAX_DROPS);
        assert_eq!(step(&keys), (vec![None], Vec::new()));
        let long = |key: u32| {
            let key = key.to_be_bytes().repeat(1024).into();
            Notice::Key { tenant: None, key, version: None }
        };
        let many: Vec<_> = (0..=512).map(long).collect();
        assert_eq!(step(&many[1..]).1.len(), 512, "2 MiB");
        assert_eq!(step(&many), (vec![None], Vec::new()));
    }
}

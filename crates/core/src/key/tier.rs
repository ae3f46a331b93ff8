//! A key on its way to a server.

use bytes::Bytes;

/// A key as remote tiers see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TierKey {
    /// The encoded key: at most 4 KiB, reversible (see [`key`](crate::key)).
    pub bytes: Bytes,
    /// The digest of namespace, tenant and key: what indexes and envelopes carry.
    pub digest: [u8; 16],
}

//! The steps of a program: what processes do, and what happens to them.

use proptest::{collection::vec, option, prelude::*};

/// The number of keys, which are numbered from 0.
pub(super) const KEYS: u8 = 5;

/// An act of one process. `process` is taken modulo the number of processes.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) process: usize,
    pub(super) act: Act,
}

#[derive(Clone, Debug)]
pub(super) enum Act {
    Get(u8),
    GetMany(Vec<u8>),
    GetOrLoad(u8, u64),
    LoadMany(Vec<u8>, u64),
    Refresh(u8, u64),
    /// With a lifetime of its own in milliseconds, or with the default.
    Put(u8, u64, Option<u16>),
    PutMany(Vec<u8>, u64),
    PutIfAbsent(u8, u64),
    /// Replaces the version that the process has read.
    Replace(u8, u64),
    /// Replaces a version that never existed.
    ReplaceUnseen(u8, u64),
    Invalidate(u8),
    Remove(u8),
    RemoveMany(Vec<u8>),
    Expire(u8, u16),
    Clear,
    /// The process ends, and another process replaces it.
    Restart,
    /// The log of the nearest tier sends a heartbeat.
    Beat,
    /// The log of the nearest tier has a gap.
    Lose,
    /// A cache tier forgets a key.
    Evict(usize, u8),
    /// From now on every call to a cache tier fails.
    Down(usize),
    /// From now on a cache tier answers no call.
    Hang(usize),
    /// The cache tier works again.
    Up(usize),
    /// The clock advances by milliseconds; pending fills and repairs do not go on.
    Advance(u32),
    /// Pending fills and repairs go on for a while.
    Pause,
}

impl Step {
    /// Any step. Steps that a stack does not permit are left out later.
    pub(super) fn any() -> BoxedStrategy<Self> {
        (0usize..3, Act::any()).prop_map(|(process, act)| Self { process, act }).boxed()
    }
}

impl Act {
    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![10 => Self::read(), 18 => Self::write(), 14 => Self::event()]
    }

    fn read() -> impl Strategy<Value = Self> {
        let (key, keys, value) = (0..KEYS, vec(0..KEYS, 0..5), any::<u64>());
        prop_oneof![
            6 => key.clone().prop_map(Self::Get),
            2 => keys.clone().prop_map(Self::GetMany),
            4 => (key.clone(), value).prop_map(|(key, value)| Self::GetOrLoad(key, value)),
            2 => (keys, value).prop_map(|(keys, value)| Self::LoadMany(keys, value)),
            1 => (key, value).prop_map(|(key, value)| Self::Refresh(key, value)),
        ]
    }

    fn write() -> impl Strategy<Value = Self> {
        let (key, keys, value, millis) = (0..KEYS, vec(0..KEYS, 0..5), any::<u64>(), 1u16..2_000);
        let with = (key.clone(), value);
        prop_oneof![
            4 => (key.clone(), value, option::of(millis.clone()))
                .prop_map(|(key, value, ttl)| Self::Put(key, value, ttl)),
            2 => (keys.clone(), value).prop_map(|(keys, value)| Self::PutMany(keys, value)),
            2 => with.clone().prop_map(|(key, value)| Self::PutIfAbsent(key, value)),
            2 => with.clone().prop_map(|(key, value)| Self::Replace(key, value)),
            1 => with.prop_map(|(key, value)| Self::ReplaceUnseen(key, value)),
            2 => key.clone().prop_map(Self::Invalidate),
            2 => key.clone().prop_map(Self::Remove),
            1 => keys.prop_map(Self::RemoveMany),
            1 => (key, millis).prop_map(|(key, millis)| Self::Expire(key, millis)),
            1 => Just(Self::Clear),
        ]
    }

    fn event() -> impl Strategy<Value = Self> {
        let (key, tier) = (0..KEYS, 0usize..3);
        prop_oneof![
            2 => (1u32..400_000).prop_map(Self::Advance),
            3 => Just(Self::Pause),
            1 => Just(Self::Restart),
            2 => Just(Self::Beat),
            1 => Just(Self::Lose),
            1 => (tier.clone(), key).prop_map(|(tier, key)| Self::Evict(tier, key)),
            2 => tier.clone().prop_map(Self::Down),
            1 => tier.clone().prop_map(Self::Hang),
            3 => tier.prop_map(Self::Up),
        ]
    }
}

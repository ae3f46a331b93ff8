//! Keys can be borrowed for a lookup.

use std::{hash::Hash, sync::Arc};

/// A type that can stand for a key `K` in a lookup, so that a hit needs no owned key.
///
/// Every near tier relies on two properties of a borrowed key: it hashes as the key does, and `matches`
/// exactly the keys that are equal to `to_key`. The following types can stand for keys:
///
/// - Every `K: Clone + Eq + Hash` stands for itself.
/// - `str` stands for `String`, `Box<str>` and `Arc<str>`.
/// - `[T]` stands for `Vec<T>`, `Box<[T]>` and `Arc<[T]>`.
/// - In tuples of two or three elements, `&str` stands for `String`.
///
/// ```
/// use terrace_core::key::BorrowedKey;
///
/// fn is_key<Q: BorrowedKey<(String, u64)> + ?Sized>(lookup: &Q, key: &(String, u64)) -> bool {
///     lookup.matches(key)
/// }
/// assert!(is_key(&("ann", 7_u64), &("ann".to_owned(), 7)));
/// ```
#[diagnostic::on_unimplemented(
    message = "`&{Self}` is no key of a cache whose keys are `{K}`",
    label = "keys are `{K}`",
    note = "calls take `&key`, where the key is a `{K}` or a form of it that is borrowed: a `&str` for a `String`"
)]
pub trait BorrowedKey<K: ?Sized>: Hash {
    /// Whether this borrowed key stands for `key`.
    fn matches(&self, key: &K) -> bool;

    /// Makes the owned key. Only a miss makes an owned key of a borrowed one.
    fn to_key(&self) -> K
    where
        K: Sized;
}

impl<K: Clone + Eq + Hash> BorrowedKey<K> for K {
    fn matches(&self, key: &K) -> bool {
        self == key
    }

    fn to_key(&self) -> K {
        self.clone()
    }
}

macro_rules! slices {
    ($([$($param:tt)*] $borrowed:ty => $owned:ty;)*) => {$(
        impl<$($param)*> BorrowedKey<$owned> for $borrowed {
            fn matches(&self, key: &$owned) -> bool {
                self == &key[..]
            }

            fn to_key(&self) -> $owned {
                self.into()
            }
        }
    )*};
}

slices! {
    [] str => String;
    [] str => Box<str>;
    [] str => Arc<str>;
    [T: Clone + Eq + Hash] [T] => Vec<T>;
    [T: Clone + Eq + Hash] [T] => Box<[T]>;
    [T: Clone + Eq + Hash] [T] => Arc<[T]>;
}

/// Writes one impl for each combination of elements that are `&str`. A blanket impl over the elements'
/// own `BorrowedKey` would overlap with the impl of a key for itself.
macro_rules! tuples {
    ($([$($param:ident)*] ($($borrowed:ty),*) => ($($owned:ty),*), [$($at:tt)*];)*) => {$(
        impl<$($param: Clone + Eq + Hash),*> BorrowedKey<($($owned),*)> for ($($borrowed),*) {
            fn matches(&self, key: &($($owned),*)) -> bool {
                $(self.$at == key.$at)&&*
            }

            fn to_key(&self) -> ($($owned),*) {
                ($(self.$at.clone().into()),*)
            }
        }
    )*};
}

tuples! {
    [] (&str, &str) => (String, String), [0 1];
    [B] (&str, B) => (String, B), [0 1];
    [A] (A, &str) => (A, String), [0 1];
    [] (&str, &str, &str) => (String, String, String), [0 1 2];
    [C] (&str, &str, C) => (String, String, C), [0 1 2];
    [B] (&str, B, &str) => (String, B, String), [0 1 2];
    [A] (A, &str, &str) => (A, String, String), [0 1 2];
    [B C] (&str, B, C) => (String, B, C), [0 1 2];
    [A C] (A, &str, C) => (A, String, C), [0 1 2];
    [A B] (A, B, &str) => (A, B, String), [0 1 2];
}

#[cfg(test)]
mod tests {
    use std::hash::BuildHasher;

    use proptest::prelude::*;

    use super::*;

    fn stands_for<K: Hash + Eq, Q: BorrowedKey<K> + ?Sized>(lookup: &Q, key: &K, other: &K) {
        let hasher = std::hash::RandomState::new();
        assert_eq!(hasher.hash_one(lookup), hasher.hash_one(key));
        assert!(lookup.matches(key));
        assert!(lookup.to_key() == *key);
        assert_eq!(lookup.matches(other), key == other);
    }

    proptest! {
        #[test]
        fn a_lookup_hashes_and_compares_as_its_key(
            a in "\\PC{0,6}", b in "[ab]{0,3}", c in "[ab]{0,3}", n: u64, m: i32, other in "[ab]{0,3}",
        ) {
            let o = &other;
            stands_for(&a, &a.clone(), o);
            stands_for(a.as_str(), &a, o);
            stands_for(a.as_str(), &Box::<str>::from(&*a), &Box::from(&**o));
            stands_for(a.as_str(), &Arc::<str>::from(&*a), &Arc::from(&**o));
            stands_for(a.as_bytes(), &a.clone().into_bytes(), &o.clone().into_bytes());
            stands_for(a.as_bytes(), &Box::<[u8]>::from(a.as_bytes()), &Box::from(o.as_bytes()));
            stands_for(&[n, 7][..], &vec![n, 7], &vec![7, n]);
            stands_for(&(&*b, &*c), &(b.clone(), c.clone()), &(c.clone(), b.clone()));
            stands_for(&(&*b, n), &(b.clone(), n), &(o.clone(), n));
            stands_for(&(m, &*b), &(m, b.clone()), &(m, o.clone()));
            stands_for(&(&*a, &*b, &*c), &(a.clone(), b.clone(), c.clone()), &(a.clone(), c.clone(), b.clone()));
            stands_for(&(&*b, &*c, n), &(b.clone(), c.clone(), n), &(c.clone(), b.clone(), n));
            stands_for(&(&*b, n, &*c), &(b.clone(), n, c.clone()), &(c.clone(), n, b.clone()));
            stands_for(&(n, &*b, &*c), &(n, b.clone(), c.clone()), &(n, c.clone(), b.clone()));
            stands_for(&(&*b, n, m), &(b.clone(), n, m), &(o.clone(), n, m));
            stands_for(&(n, &*b, m), &(n, b.clone(), m), &(n, o.clone(), m));
            stands_for(&(n, m, &*b), &(n, m, b.clone()), &(n, m, o.clone()));
        }
    }
}

//! LRU stack distances: how many distinct keys were used since the last use of a key.
//!
//! An LRU cache of `n` entries hits exactly the uses whose distance is below `n`. So one pass gives the hit
//! ratio at every capacity. Source: R. L. Mattson et al., Evaluation techniques for storage hierarchies, IBM
//! Systems Journal 9(2), 1970.

use std::collections::HashMap;

use foldhash::fast::FixedState;

/// The distances of a sequence of keys. The memory in use grows with the number of keys alone.
#[derive(Default)]
pub(crate) struct StackDistances {
    /// The time of the last use of each key.
    last: HashMap<u64, u32, FixedState>,
    /// Sums over the times: 1 at the last use of a key, and 0 elsewhere.
    uses: SumTree,
    now: u32,
}

impl StackDistances {
    /// The distance of a use of this key, or `None` for the first use.
    pub(crate) fn use_key(&mut self, key: u64) -> Option<u32> {
        if self.now as usize == self.uses.len() {
            self.renumber();
        }
        let now = self.now;
        self.now += 1;
        let before = self.last.insert(key, now);
        let distance = before.map(|before| {
            // The keys used after `before`: all last uses less those up to and with `before`.
            let after = self.last.len() as u32 - self.uses.sum_to(before);
            self.uses.add(before, -1);
            after
        });
        self.uses.add(now, 1);
        distance
    }

    /// Forgets a key: its next use is a first one, and it is between no two uses any more.
    pub(crate) fn remove(&mut self, key: u64) {
        if let Some(time) = self.last.remove(&key) {
            self.uses.add(time, -1);
        }
    }

    /// The number of keys.
    pub(crate) fn keys(&self) -> usize {
        self.last.len()
    }

    /// Gives the last uses the times 0, 1, 2 .. in their order, and makes place for as many uses again.
    fn renumber(&mut self) {
        let mut times: Vec<(u32, u64)> = self.last.iter().map(|(key, time)| (*time, *key)).collect();
        times.sort_unstable();
        self.uses = SumTree::new((times.len() * 2).max(1 << 16));
        for (new, (_, key)) in times.iter().enumerate() {
            self.last.insert(*key, new as u32);
            self.uses.add(new as u32, 1);
        }
        self.now = times.len() as u32;
    }
}

/// Sums over beginnings of a list of numbers, each change and each sum in logarithmic time.
///
/// Source: P. M. Fenwick, A new data structure for cumulative frequency tables, 1994.
#[derive(Default)]
struct SumTree(Vec<i32>);

impl SumTree {
    fn new(len: usize) -> Self {
        Self(vec![0; len])
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn add(&mut self, at: u32, number: i32) {
        let mut node = at as usize;
        while let Some(sum) = self.0.get_mut(node) {
            *sum += number;
            node |= node + 1;
        }
    }

    /// The sum of the numbers up to and with that at `at`.
    fn sum_to(&self, at: u32) -> u32 {
        let (mut node, mut sum) = (at as usize + 1, 0);
        while node > 0 {
            sum += self.0[node - 1];
            node &= node - 1;
        }
        sum as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The distance as a list of keys in the order of their uses gives it.
    fn by_list(list: &mut Vec<u64>, key: u64) -> Option<u32> {
        let place = list.iter().rposition(|held| *held == key);
        let distance = place.map(|place| {
            list.remove(place);
            (list.len() - place) as u32
        });
        list.push(key);
        distance
    }

    #[test]
    fn distances_are_those_of_a_list_through_renumberings_and_removals() {
        let (mut distances, mut list) = (StackDistances::default(), Vec::new());
        let mut random = fastrand::Rng::with_seed(3);
        for step in 0..200_000 {
            let most = random.u64(1..=300);
            let key = random.u64(..most);
            if step % 37 == 0 {
                distances.remove(key);
                list.retain(|held| *held != key);
            } else {
                assert_eq!(distances.use_key(key), by_list(&mut list, key), "step {step}");
            }
            assert_eq!(distances.keys(), list.len());
        }
        assert!(distances.now < 200_000, "the times were never numbered anew");
    }
}

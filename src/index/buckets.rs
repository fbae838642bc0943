//! A hash table that grows by one bucket at a time (linear hashing), so that no insertion
//! ever moves more than a bucket, and whose buckets are lists without spare room to speak of.
//!
//! Used where a table may have millions of items and an item is a few bytes: there the free
//! places of an open-addressed table cost as much as the items, and its growth is a pause.

/// What a table holds. One value stands for a free place.
pub(super) trait Item: Copy {
    const FREE: Self;

    fn is_free(&self) -> bool;

    /// Well mixed bits that never change; the low ones choose the bucket.
    fn address(&self) -> u32;
}

/// A short list in one allocation. Free places are at its end; nothing else counts them.
#[derive(Debug)]
pub(super) struct List<T>(Box<[T]>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T: Item> List<T> {
    pub(super) fn len(&self) -> usize {
        self.0.partition_point(|item| !item.is_free())
    }

    /// Its places, free ones at the end included: what a search goes over.
    pub(super) fn places(&self) -> &[T] {
        &self.0
    }

    pub(super) fn places_mut(&mut self) -> &mut [T] {
        &mut self.0
    }

    pub(super) fn items(&self) -> &[T] {
        &self.0[..self.len()]
    }

    pub(super) fn push(&mut self, item: T) {
        let len = self.len();
        if len == self.0.len() {
            // There are many lists and most stay short: grow by little.
            self.resize(len + (len / 4).max(2));
        }
        self.0[len] = item;
    }

    /// Takes an item out; the last one takes its place.
    pub(super) fn take(&mut self, at: usize) -> T {
        let left = self.len() - 1;
        let item = self.0[at];
        self.0[at] = self.0[left];
        self.0[left] = T::FREE;
        if left * 2 + 4 < self.0.len() {
            self.resize(left);
        }
        item
    }

    /// Gives back what growing took too much.
    pub(super) fn shrink(&mut self) {
        let len = self.len();
        if len < self.0.len() {
            self.resize(len);
        }
    }

    fn resize(&mut self, n_places: usize) {
        let mut places = std::mem::take(&mut self.0).into_vec();
        places.reserve_exact(n_places.saturating_sub(places.len()));
        places.resize(n_places, T::FREE);
        self.0 = places.into_boxed_slice();
    }
}

/// The table.
#[derive(Debug)]
pub(super) struct Buckets<T> {
    /// Never empty.
    lists: Vec<List<T>>,
    n_items: usize,
}

/// Items a bucket on average: three or four cache lines to look through.
const LOAD: usize = 12;

impl<T: Item> Default for Buckets<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T: Item> Buckets<T> {
    /// A table that takes so many items without a split.
    pub(super) fn with_capacity(n_items: usize) -> Self {
        let mut lists = Vec::new();
        lists.resize_with((n_items / LOAD).max(1), List::default);
        Self { lists, n_items: 0 }
    }

    /// A table of many items at once, each bucket just as long as it has to be. `each` gives
    /// them all, two times the same.
    pub(super) fn of(n_items: usize, each: impl Fn(&mut dyn FnMut(T))) -> Self {
        let mut table = Self::with_capacity(n_items);
        let mut left = vec![0usize; table.lists.len()];
        each(&mut |item| left[table.at(item.address())] += 1);
        for (list, n) in table.lists.iter_mut().zip(&left) {
            list.resize(*n);
        }
        each(&mut |item| {
            let at = table.at(item.address());
            left[at] -= 1;
            table.lists[at].0[left[at]] = item;
            table.n_items += 1;
        });
        table
    }

    /// The bucket of an address: its low bits, one fewer where that bucket is still to come.
    fn at(&self, address: u32) -> usize {
        let n = self.lists.len();
        let span = n.next_power_of_two();
        let at = address as usize & (span - 1);
        if at < n { at } else { at & (span / 2 - 1) }
    }

    /// All items of an address are in this list, with others.
    pub(super) fn list(&self, address: u32) -> &List<T> {
        &self.lists[self.at(address)]
    }

    pub(super) fn list_mut(&mut self, address: u32) -> &mut List<T> {
        let at = self.at(address);
        &mut self.lists[at]
    }

    pub(super) fn insert(&mut self, item: T) {
        self.list_mut(item.address()).push(item);
        self.n_items += 1;
        if self.n_items > self.lists.len() * LOAD {
            self.split();
        }
    }

    /// Takes out the first item of an address that is the wanted one.
    pub(super) fn remove(&mut self, address: u32, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        let list = self.list_mut(address);
        let is_it = |item: &T| !item.is_free() && wanted(item);
        let at = list.places().iter().position(is_it)?;
        let item = list.take(at);
        self.n_items -= 1;
        if self.n_items < self.lists.len() / 4 * LOAD {
            self.merge();
        }
        Some(item)
    }

    /// The bucket that the newest one was split from.
    fn origin(at: usize) -> usize {
        // Without its highest bit; 0 is never split off.
        at & !(1 << at.ilog2())
    }

    /// Adds one bucket with those items of another that belong there now.
    fn split(&mut self) {
        let new = self.lists.len();
        self.lists.push(List::default());
        let from = Self::origin(new);
        let (go, stay): (Vec<T>, Vec<T>) = self.lists[from]
            .items()
            .iter()
            .partition(|item| self.at(item.address()) == new);
        self.lists[from] = List(stay.into_boxed_slice());
        self.lists[new] = List(go.into_boxed_slice());
    }

    /// Takes the newest bucket back.
    fn merge(&mut self) {
        if self.lists.len() > 1
            && let Some(last) = self.lists.pop()
        {
            let into = Self::origin(self.lists.len());
            for item in last.items() {
                self.lists[into].push(*item);
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.lists.iter().flat_map(List::items)
    }

    pub(super) fn lists_mut(&mut self) -> impl Iterator<Item = &mut List<T>> {
        self.lists.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    impl Item for u32 {
        const FREE: Self = Self::MAX;

        fn is_free(&self) -> bool {
            *self == Self::MAX
        }

        /// Many items of one address, too.
        fn address(&self) -> u32 {
            self / 3
        }
    }

    proptest! {
        #[test]
        fn it_holds_what_it_was_given_while_it_grows_and_shrinks(
            steps in prop::collection::vec((any::<bool>(), 0..400u32), 0..1500),
        ) {
            let mut table = Buckets::<u32>::default();
            let mut model = BTreeSet::new();
            for (put, item) in steps {
                if !put {
                    let removed = table.remove(item.address(), |found| *found == item);
                    prop_assert_eq!(removed.is_some(), model.remove(&item));
                } else if model.insert(item) {
                    table.insert(item);
                }
            }
            prop_assert_eq!(table.n_items, model.len());
            let held: BTreeSet<u32> = table.iter().copied().collect();
            for item in &model {
                prop_assert!(table.list(item.address()).items().contains(item));
            }
            prop_assert_eq!(held, model);
        }
    }

    #[test]
    fn a_table_of_many_at_once_is_like_any_other() {
        for n in [0, 1, 1000] {
            let each = |give: &mut dyn FnMut(u32)| (0..n).for_each(give);
            let mut table = Buckets::of(n as usize / 2, each);
            assert_eq!(
                (table.n_items, table.iter().count()),
                (n as usize, n as usize)
            );
            (n..n + 1000).for_each(|item| table.insert(item));
            for item in 0..n + 1000 {
                let removed = table.remove(item.address(), |other| *other == item);
                assert_eq!(removed, Some(item));
            }
        }
    }

    #[test]
    fn no_bucket_grows_with_the_table() {
        let mut table = Buckets::<u32>::default();
        for n in 0..100_000u32 {
            table.insert(n.wrapping_mul(2_654_435_769) >> 1);
        }
        let longest = table.lists_mut().map(|list| list.len()).max();
        assert!(longest < Some(LOAD * 8), "{longest:?}");
        let places: usize = table.lists_mut().map(|list| list.places().len()).sum();
        assert!(places < 130_000, "{places}");
    }
}

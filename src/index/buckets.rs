//! A hash table that grows by one bucket at a time (linear hashing), so that no insertion
//! ever moves more than a bucket, and whose buckets are lists without spare room to speak of.
//!
//! Used where a table may have millions of items and an item is a few bytes: there the free
//! places of an open-addressed table cost as much as the items, and its growth is a pause.

/// What a table holds. One value stands for a free place.
pub(super) trait Item: Copy {
    const FREE: Self;

    /// Items a bucket on average: few cache lines to look through.
    const LOAD: usize;

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
    /// So many free places.
    pub(super) fn of(n_places: usize) -> Self {
        Self(vec![T::FREE; n_places].into())
    }

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

    /// Always in new memory: what a list leaves is as long as what others like it are about to
    /// need. One that is cut short where it is leaves bits that nobody does.
    fn resize(&mut self, n_places: usize) {
        let mut places = Vec::with_capacity(n_places);
        places.extend_from_slice(&self.0[..n_places.min(self.0.len())]);
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

impl<T: Item> Default for Buckets<T> {
    fn default() -> Self {
        Self::with_capacity(0)
    }
}

impl<T: Item> Buckets<T> {
    /// A table that takes so many items without a split.
    pub(super) fn with_capacity(n_items: usize) -> Self {
        let mut lists = Vec::new();
        lists.resize_with((n_items / T::LOAD).max(1), List::default);
        Self { lists, n_items: 0 }
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
        if self.n_items > self.lists.len() * T::LOAD {
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
        if self.n_items < self.lists.len() / 4 * T::LOAD {
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
        let old = std::mem::take(&mut self.lists[from]);
        let goes = |item: &&T| self.at(item.address()) == new;
        let n_go = old.items().iter().filter(goes).count();
        // Just as long as they have to be: what is cut off later leaves bits that nobody needs.
        let (mut go, mut stay) = (List::of(n_go), List::of(old.len() - n_go));
        for item in old.items() {
            let list = if goes(&item) { &mut go } else { &mut stay };
            list.push(*item);
        }
        self.lists[from] = stay;
        self.lists[new] = go;
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
        const LOAD: usize = 12;

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
    fn no_bucket_grows_with_the_table() {
        let mut table = Buckets::<u32>::default();
        for n in 0..100_000u32 {
            table.insert(n.wrapping_mul(2_654_435_769) >> 1);
        }
        let longest = table.lists_mut().map(|list| list.len()).max();
        assert!(longest < Some(u32::LOAD * 8), "{longest:?}");
        let places: usize = table.lists_mut().map(|list| list.places().len()).sum();
        assert!(places < 130_000, "{places}");
    }
}

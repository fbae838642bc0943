//! Values that many sessions share, kept once.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;

/// Stands for a kept value: its place, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(NonZeroU32);

impl Word {
    /// Memory ends before a number does.
    fn at(place: usize) -> Self {
        Self(NonZeroU32::MIN.saturating_add(place as u32))
    }

    fn place(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The kept values, each for as long as somebody uses it.
#[derive(Debug)]
pub(super) struct Words<T> {
    /// With the number of users; the place of a value without users is used again.
    all: Vec<(T, u32)>,
    free: Vec<Word>,
    places: HashMap<T, Word>,
}

impl<T> Default for Words<T> {
    fn default() -> Self {
        Self {
            all: Vec::new(),
            free: Vec::new(),
            places: HashMap::new(),
        }
    }
}

impl<T: Clone + Eq + Hash> Words<T> {
    pub(super) fn get(&self, word: Word) -> &T {
        &self.all[word.place()].0
    }

    /// Begins to use a value.
    pub(super) fn keep(&mut self, value: T) -> Word {
        if let Some(word) = self.places.get(&value) {
            self.all[word.place()].1 += 1;
            return *word;
        }
        let word = match self.free.pop() {
            Some(word) => {
                self.all[word.place()] = (value.clone(), 1);
                word
            }
            None => {
                self.all.push((value.clone(), 1));
                Word::at(self.all.len() - 1)
            }
        };
        self.places.insert(value, word);
        word
    }

    /// Ends to use it.
    pub(super) fn release(&mut self, word: Word) {
        let (value, n_users) = &mut self.all[word.place()];
        *n_users -= 1;
        if *n_users == 0 {
            self.places.remove(value);
            self.free.push(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_kept_once_and_while_it_is_used() {
        let mut words = Words::default();
        let (a, b, again) = (words.keep("a"), words.keep("b"), words.keep("a"));
        assert_eq!(a, again);
        words.release(a);
        assert_eq!((*words.get(again), *words.get(b)), ("a", "b"));
        words.release(again);
        let c = words.keep("c");
        assert_eq!((c, words.all.len()), (a, 2));
    }
}

//! A table with a bound: entries by key for the guest's side, by [`Id`] for the host's. An id names one entry and never a
//! later one in its place, so that an event of the host that comes too late finds nothing.

use std::collections::HashMap;
use std::hash::Hash;

/// Names an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Id {
    /// Place.
    pub index: u16,
    /// Which of the entries that had this place.
    pub generation: u32,
}

#[derive(Debug)]
struct Slot<K, V> {
    generation: u32,
    entry: Option<(K, V)>,
}

/// The table.
#[derive(Debug)]
pub struct Table<K, V> {
    slots: Vec<Slot<K, V>>,
    free: Vec<u16>,
    by_key: HashMap<K, u16>,
    limit: u16,
}

impl<K: Copy + Eq + Hash, V> Table<K, V> {
    /// Of at most `limit` entries.
    pub fn new(limit: u16) -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::new(),
            limit,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is no place left.
    pub fn is_full(&self) -> bool {
        self.by_key.len() >= usize::from(self.limit)
    }

    /// Whether there is an entry of this key.
    pub fn contains(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// The id of a key's entry.
    pub fn find(&self, key: &K) -> Option<Id> {
        let index = *self.by_key.get(key)?;
        let generation = self.slots.get(usize::from(index))?.generation;
        Some(Id { index, generation })
    }

    /// Adds an entry; gives it back if the table is full or has its key.
    pub fn insert(&mut self, key: K, value: V) -> Result<Id, V> {
        if self.is_full() || self.contains(&key) {
            return Err(value);
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    entry: None,
                });
                (self.slots.len() - 1) as u16
            }
        };
        let Some(slot) = self.slots.get_mut(usize::from(index)) else {
            return Err(value);
        };
        slot.entry = Some((key, value));
        self.by_key.insert(key, index);
        Ok(Id {
            index,
            generation: slot.generation,
        })
    }

    /// An entry.
    pub fn get(&mut self, id: Id) -> Option<(K, &mut V)> {
        let slot = self.slots.get_mut(usize::from(id.index))?;
        if slot.generation != id.generation {
            return None;
        }
        slot.entry.as_mut().map(|(key, value)| (*key, value))
    }

    /// Takes an entry out.
    pub fn remove(&mut self, id: Id) -> Option<(K, V)> {
        let slot = self.slots.get_mut(usize::from(id.index))?;
        if slot.generation != id.generation {
            return None;
        }
        let entry = slot.entry.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        self.by_key.remove(&entry.0);
        Some(entry)
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &K, &V)> {
        (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let (key, value) = slot.entry.as_ref()?;
            let generation = slot.generation;
            Some((Id { index, generation }, key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_never_names_a_later_entry_and_the_bound_holds() {
        let mut table = Table::new(2);
        let first = table.insert('a', 1).unwrap();
        table.insert('b', 2).unwrap();
        assert_eq!(table.insert('c', 3), Err(3), "full");
        assert_eq!(table.remove(first), Some(('a', 1)));
        assert_eq!(table.insert('b', 9), Err(9), "the key is there");
        let third = table.insert('c', 3).unwrap();
        assert_eq!(third.index, first.index);
        assert!(table.get(first).is_none() && table.remove(first).is_none());
        assert_eq!(table.get(third), Some(('c', &mut 3)));
        assert_eq!((table.find(&'c'), table.find(&'a')), (Some(third), None));
        assert_eq!(table.iter().count(), table.len());
    }
}

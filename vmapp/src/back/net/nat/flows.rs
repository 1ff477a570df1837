//! Flows of a protocol without connections: one ends when it has been idle for too long, and in a full table the one idle for
//! longest makes room. With them goes the queue of those whose sockets have something: each is in it once at most, and they
//! are served in turns.

use super::table::{Id, Table};
use std::collections::VecDeque;
use std::hash::Hash;
use std::time::Duration;

#[derive(Debug)]
struct Flow<W> {
    way: W,
    used: Duration,
    /// It is in `readable`.
    queued: bool,
}

/// Flows by key; each has its way out to the host.
#[derive(Debug)]
pub struct Flows<K, W> {
    table: Table<K, Flow<W>>,
    idle: Duration,
    readable: VecDeque<Id>,
    next_sweep: Option<Duration>,
}

impl<K: Copy + Eq + Hash, W> Flows<K, W> {
    /// None yet; at most `limit`, each of which ends when `idle` for so long.
    pub fn new(limit: u16, idle: Duration) -> Self {
        Self {
            table: Table::new(limit),
            idle,
            readable: VecDeque::new(),
            next_sweep: None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// The id of a key's flow.
    pub fn find(&self, key: &K) -> Option<Id> {
        self.table.find(key)
    }

    /// A flow's way.
    pub fn way(&mut self, id: Id) -> Option<&mut W> {
        self.table.get(id).map(|(_, flow)| &mut flow.way)
    }

    /// A flow's way, which is about to be used.
    pub fn use_way(&mut self, id: Id, now: Duration) -> Option<&mut W> {
        let (_, flow) = self.table.get(id)?;
        flow.used = now;
        Some(&mut flow.way)
    }

    /// Adds a flow whose key has none. Returns whether another had to make room.
    pub fn add(&mut self, key: K, way: W, now: Duration) -> Option<(Id, bool)> {
        let full = self.table.is_full();
        if full {
            let longest_idle = self.table.iter().min_by_key(|(_, _, flow)| flow.used);
            let id = longest_idle.map(|(id, ..)| id)?;
            self.table.remove(id);
        }
        let flow = Flow {
            way,
            used: now,
            queued: false,
        };
        let id = self.table.insert(key, flow).ok()?;
        self.next_sweep.get_or_insert(now + self.idle);
        Some((id, full))
    }

    /// Ends a flow.
    pub fn remove(&mut self, id: Id) {
        self.table.remove(id);
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn deadline(&self) -> Option<Duration> {
        self.next_sweep
    }

    /// Ends those that have been idle for too long.
    pub fn expire(&mut self, now: Duration) {
        if self.next_sweep.is_none_or(|at| now < at) {
            return;
        }
        let old: Vec<Id> = (self.table.iter())
            .filter(|(_, _, flow)| now.saturating_sub(flow.used) >= self.idle)
            .map(|(id, ..)| id)
            .collect();
        for id in old {
            self.table.remove(id);
        }
        self.next_sweep = self.table.iter().map(|(_, _, flow)| flow.used + self.idle).min();
    }

    /// A flow's socket is readable.
    pub fn event(&mut self, id: Id) {
        if let Some((_, flow)) = self.table.get(id)
            && !std::mem::replace(&mut flow.queued, true)
        {
            self.readable.push_back(id);
        }
    }

    /// Whether a socket may have something.
    pub fn is_ready(&self) -> bool {
        !self.readable.is_empty()
    }

    /// The flow whose turn it is to be read.
    pub fn readable(&mut self) -> Option<(Id, K)> {
        while let Some(&id) = self.readable.front() {
            if let Some((key, _)) = self.table.get(id) {
                return Some((id, key));
            }
            self.readable.pop_front();
        }
        None
    }

    /// The flow that was read may have more: it is another's turn.
    pub fn next_turn(&mut self) {
        if !self.readable.is_empty() {
            self.readable.rotate_left(1);
        }
    }

    /// The flow that was read has no more.
    pub fn ran_dry(&mut self) {
        if let Some(id) = self.readable.pop_front()
            && let Some((_, flow)) = self.table.get(id)
        {
            flow.queued = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Duration = Duration::from_secs(30);

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_one_idle_for_longest_makes_room_and_idle_ones_end() {
        let mut flows = Flows::new(2, IDLE);
        let (a, _) = flows.add('a', 1, at(0)).unwrap();
        let (b, _) = flows.add('b', 2, at(1)).unwrap();
        assert_eq!(flows.deadline(), Some(at(30)));
        assert_eq!(flows.use_way(a, at(2)), Some(&mut 1));
        let (c, evicted) = flows.add('c', 3, at(3)).unwrap();
        assert!(evicted && flows.way(b).is_none() && flows.find(&'a') == Some(a));
        flows.expire(at(29));
        assert_eq!(flows.len(), 2, "not yet");
        flows.expire(at(32));
        assert_eq!((flows.len(), flows.deadline()), (1, Some(at(33))));
        flows.expire(at(33));
        assert!(flows.way(c).is_none() && flows.deadline().is_none());
    }

    #[test]
    fn readable_ones_are_served_in_turns_and_queued_once() {
        let mut flows = Flows::new(3, IDLE);
        let [a, b, c] = ['a', 'b', 'c'].map(|key| flows.add(key, (), at(0)).unwrap().0);
        for id in [a, b, a, c, a] {
            flows.event(id);
        }
        flows.remove(b);
        let mut turn = |more: bool| {
            let key = flows.readable().map(|(_, key)| key);
            if more {
                flows.next_turn()
            } else {
                flows.ran_dry()
            }
            key
        };
        assert_eq!(
            [turn(true), turn(true), turn(false), turn(false), turn(false)],
            [Some('a'), Some('c'), Some('a'), Some('c'), None]
        );
        flows.event(a);
        assert!(flows.is_ready(), "dry ones may be queued again");
    }
}

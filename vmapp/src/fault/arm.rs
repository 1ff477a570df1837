//! The faults a worker has armed: whether this chance is struck. Pure; no clock, no process, no message.
//!
//! A chance is one occasion an order may strike at: a message in its direction, a signal, a pass of a point. An order
//! counts its chances, and the count alone, with its seed, decides: so the same traffic meets the same faults again,
//! whatever else is armed and however often the worker has died in between.

use shared::msg::fault::{Action, Dir, DiskFault, DiskOp, Injection, Order, Pace, Point, Progress, Target};

/// Most injections kept one by one until they are told; more are added up.
const MAX_NEWS: usize = 32;

/// One occasion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chance {
    /// A message crosses.
    Message(Target, Dir),
    /// A bit was taken from the pending word.
    Rung(Target),
    /// The vmm is about to be signalled.
    Signal(Target),
    /// A message has crossed.
    Crossed(Target),
    /// A disk's thread begins a request: what, first sector, how many.
    Disk(Target, DiskOp, u64, u32),
    /// The worker passes a point, of a channel or of none.
    Point(Point, Option<Target>),
}

impl Chance {
    fn target(self) -> Option<Target> {
        match self {
            Self::Message(target, _)
            | Self::Rung(target)
            | Self::Signal(target)
            | Self::Crossed(target)
            | Self::Disk(target, ..) => Some(target),
            Self::Point(_, target) => target,
        }
    }

    fn dir(self) -> Option<Dir> {
        match self {
            Self::Message(_, dir) => Some(dir),
            Self::Rung(_) => Some(Dir::Down),
            Self::Signal(_) => Some(Dir::Up),
            Self::Crossed(_) | Self::Disk(..) | Self::Point(..) => None,
        }
    }

    /// Whether an action of this kind can strike here at all.
    fn suits(self, action: &Action) -> bool {
        match (self, action) {
            (
                Self::Message(..),
                Action::Drop
                | Action::Delay { .. }
                | Action::Duplicate
                | Action::Reorder
                | Action::Corrupt { .. }
                | Action::Truncate { .. }
                | Action::Stall { .. },
            )
            | (Self::Rung(_) | Self::Signal(_), Action::DoorbellLost)
            | (Self::Signal(_), Action::IrqLost)
            | (Self::Crossed(_), Action::IrqSpurious) => true,
            (Self::Point(point, _), _) => action.point() == Some(point),
            (Self::Disk(_, asked, first, sectors), Action::DiskError { error, op, lba }) => {
                can_fail(*error, asked)
                    && op.is_none_or(|op| op == asked)
                    && lba.is_none_or(|range| touches(range, first, sectors))
            }
            _ => false,
        }
    }
}

/// Whether a disk can fail so at this: reads and flushes are never short, a read needs no room.
pub fn can_fail(error: DiskFault, op: DiskOp) -> bool {
    match error {
        DiskFault::Eio | DiskFault::Slow { .. } => true,
        DiskFault::Enospc => op != DiskOp::Read,
        DiskFault::ShortWrite => op == DiskOp::Write,
    }
}

/// Whether a request touches the sectors of a range, both ends in it. A flush touches none.
fn touches((from, to): (u64, u64), first: u64, sectors: u32) -> bool {
    sectors != 0 && first <= to && first.saturating_add(u64::from(sectors) - 1) >= from
}

/// A chance struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// What to do.
    pub action: Action,
    /// For choices the action leaves open: which bit, which sector. The same at every repetition.
    pub dice: Dice,
}

/// The armed set.
#[derive(Debug, Default)]
pub struct Armed {
    orders: Vec<Order>,
    news: Vec<Injection>,
}

impl Armed {
    /// Takes over what is armed from now on; orders known already keep their own progress.
    pub fn set(&mut self, mut orders: Vec<Order>) {
        for order in &mut orders {
            if let Some(known) = self.orders.iter().find(|known| known.id == order.id) {
                (order.passes, order.struck) = (known.passes, known.struck);
            }
        }
        self.orders = orders;
    }

    /// Whether any order can still strike.
    pub fn is_live(&self) -> bool {
        self.orders.iter().any(|order| !order.is_spent())
    }

    /// Whether an order waits for this point: for work that only a fault there needs.
    pub fn awaits(&self, point: Point) -> bool {
        self.orders
            .iter()
            .any(|order| !order.is_spent() && order.fault.action.point() == Some(point))
    }

    /// Takes a chance: what strikes, in the order of arming.
    pub fn chance(&mut self, chance: Chance) -> Vec<Hit> {
        let mut hits = Vec::new();
        for order in &mut self.orders {
            let fault = order.fault;
            let elsewhere = fault.channel.is_some() && fault.channel != chance.target();
            let other_way = fault.dir.is_some() && fault.dir != chance.dir();
            if order.is_spent() || elsewhere || other_way || !chance.suits(&fault.action) {
                continue;
            }
            order.passes = order.passes.saturating_add(1);
            let mut dice = Dice::new(fault.seed.unwrap_or(1), fault.action.name(), order.passes);
            if order.passes <= fault.after || !strikes(fault.pace, order.passes - fault.after, &mut dice) {
                continue;
            }
            order.struck += 1;
            note(
                &mut self.news,
                Injection {
                    order: order.id,
                    pass: order.passes,
                    times: 1,
                    channel: chance.target(),
                    dir: chance.dir(),
                },
            );
            hits.push(Hit {
                action: fault.action,
                dice,
            });
        }
        hits
    }

    /// What was struck since it was last told.
    pub fn news(&self) -> &[Injection] {
        &self.news
    }

    /// It has been told.
    pub fn told(&mut self) {
        self.news.clear();
    }

    /// How far every order is.
    pub fn progress(&self) -> Vec<Progress> {
        self.orders
            .iter()
            .map(|order| Progress {
                order: order.id,
                passes: order.passes,
                struck: order.struck,
            })
            .collect()
    }
}

/// Whether the `pass`th chance, counted from 1 after those that pass first, is one of the pace's.
fn strikes(pace: Pace, pass: u64, dice: &mut Dice) -> bool {
    match pace {
        Pace::Every(every) => pass.is_multiple_of(every.max(1)),
        Pace::Millionths(rate) => dice.below(1_000_000) < u64::from(rate),
    }
}

/// Keeps an injection: by itself while there is room, then with the last of its order.
fn note(news: &mut Vec<Injection>, injection: Injection) {
    if news.len() < MAX_NEWS {
        return news.push(injection);
    }
    match news.iter_mut().rev().find(|kept| kept.order == injection.order) {
        Some(kept) => {
            *kept = Injection {
                times: kept.times.saturating_add(1),
                ..injection
            }
        }
        // At most one for each order armed.
        None => news.push(injection),
    }
}

/// A small generator (SplitMix64), begun anew for every chance: what falls depends on nothing but seed, action and chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dice {
    state: u64,
}

impl Dice {
    fn new(seed: u64, action: &str, pass: u64) -> Self {
        // Two actions with the same seed must not always strike together (FNV-1a).
        let name = action.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut begun = Self {
            state: seed.wrapping_add(name),
        };
        begun.state = begun.next() ^ pass;
        begun
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `bound`; 0 if that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a wide product: even to one part in 2^64 / bound.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests;

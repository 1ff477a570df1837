//! What is done to the I/O worker, and when: a list that follows from the seed alone, so that a run can be repeated.
//!
//! First a kill at every point of the protocol that the load reaches, at every channel it has, in turn; then a stop at each;
//! then points at random. Every few of them is a signal from outside instead, at a time of no meaning to the worker.

use super::heard::format::mix;
use shared::msg::fault::{Point, Scope, Target};
use std::collections::HashSet;
use std::fmt;

/// What the machine has, and so which points are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// A card on a tap, with a stream.
    pub net: bool,
    /// Accesses to data ports are calls over the control channel.
    pub forward: bool,
}

/// A point of the protocol at a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The point's name.
    pub point: &'static str,
    /// The channel's, where a point is passed at several.
    pub channel: Option<Target>,
}

impl Place {
    /// Passed only by a worker that starts.
    pub fn is_start(&self) -> bool {
        matches!(self.point, "attached" | "ready")
    }

    /// Passed only when somebody types.
    fn is_typing(&self) -> bool {
        let input = ["pushed", "published", "signalled", "in-read"];
        self.channel == Some(Target::Console) && input.contains(&self.point)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.point)?;
        self.channel.map_or(Ok(()), |channel| write!(f, " {channel}"))
    }
}

/// A blow to the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// It kills itself at a point.
    KillAt(Place),
    /// It stops at a point, and is continued after so many milliseconds.
    StopAt(Place, u64),
    /// SIGKILL, whatever it does.
    Kill,
    /// SIGSTOP, and SIGCONT after so many milliseconds.
    Stop(u64),
    /// `vmapp restart-io`.
    Restart,
}

impl Blow {
    /// The row of the table it belongs to.
    pub fn row(&self) -> String {
        match self {
            Self::KillAt(place) => format!("kill at {place}"),
            Self::StopAt(place, _) => format!("stop at {place}"),
            Self::Kill => "kill -9".to_owned(),
            Self::Stop(_) => "stop and continue".to_owned(),
            Self::Restart => "restart-io".to_owned(),
        }
    }

    /// Whether the worker is a new one after it.
    pub fn kills(&self) -> bool {
        !matches!(self, Self::StopAt(..) | Self::Stop(_))
    }

    /// The line for `vmapp fault`, if it is one; `after` chances pass first.
    pub fn spec(&self, after: u64) -> Option<String> {
        let (what, place, more) = match self {
            Self::KillAt(place) => ("kill", place, String::new()),
            Self::StopAt(place, ms) => ("stop", place, format!(" ms={ms}")),
            Self::Kill | Self::Stop(_) | Self::Restart => return None,
        };
        let channel = place.channel;
        let channel = channel.map_or(String::new(), |channel| format!(" channel={channel}"));
        Some(format!("{what} at={}{channel}{more} after={after}", place.point))
    }
}

/// One blow with its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub blow: Blow,
    /// Passes of the point that go by first.
    pub after: u64,
    /// Milliseconds of load before it.
    pub wait: u64,
}

/// The endless list.
pub struct Orders {
    places: Vec<Place>,
    /// Places where none was killed yet, the next one last.
    kills: Vec<Place>,
    /// Places where none was stopped yet, the next one last.
    stops: Vec<Place>,
    killed: HashSet<Place>,
    stopped: HashSet<Place>,
    count: u64,
    state: u64,
}

/// Of so many orders one is a signal from outside.
const OUTSIDE: u64 = 6;
/// Of so many orders at a point one is a stop.
const STOPS: u64 = 8;
/// Longest stop in milliseconds: less than the watchdog's patience.
const LONGEST_STOP: u64 = 60;
/// Most passes that go by. Every point is passed as often within a second.
const PASSES: u64 = 6;

impl Orders {
    /// The list of `seed`.
    pub fn new(seed: u64, reach: Reach) -> Self {
        let mut orders = Self {
            places: Vec::new(),
            kills: Vec::new(),
            stops: Vec::new(),
            killed: HashSet::new(),
            stopped: HashSet::new(),
            count: 0,
            state: mix(seed),
        };
        orders.reach(reach);
        orders
    }

    /// Whether every place has had its kill.
    pub fn is_round(&self) -> bool {
        self.kills.is_empty()
    }

    /// Another machine: what it reaches and none before did comes first.
    pub fn reach(&mut self, reach: Reach) {
        self.places = places(reach);
        let but = |had: &HashSet<Place>| {
            let left = self.places.iter().filter(|place| !had.contains(place));
            left.rev().copied().collect()
        };
        self.kills = but(&self.killed);
        self.stops = but(&self.stopped);
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state = mix(self.state);
        self.state % limit
    }

    fn outside(&mut self) -> Blow {
        match self.below(4) {
            0 => Blow::Stop(1 + self.below(LONGEST_STOP)),
            1 => Blow::Restart,
            _ => Blow::Kill,
        }
    }

    fn at_a_point(&mut self) -> Blow {
        if let Some(place) = self.kills.pop() {
            self.killed.insert(place);
            return Blow::KillAt(place);
        }
        if let Some(place) = self.stops.pop() {
            self.stopped.insert(place);
            return self.stop_at(place);
        }
        let place = self.below(self.places.len() as u64) as usize;
        let place = self.places[place];
        if self.below(STOPS) == 0 {
            return self.stop_at(place);
        }
        Blow::KillAt(place)
    }

    fn stop_at(&mut self, place: Place) -> Blow {
        Blow::StopAt(place, 1 + self.below(LONGEST_STOP))
    }
}

impl Iterator for Orders {
    type Item = Order;

    fn next(&mut self) -> Option<Order> {
        self.count += 1;
        let blow = if self.count.is_multiple_of(OUTSIDE) {
            self.outside()
        } else {
            self.at_a_point()
        };
        let seldom = matches!(blow, Blow::KillAt(place) | Blow::StopAt(place, _) if place.is_start() || place.is_typing());
        let after = if seldom { 0 } else { self.below(PASSES) };
        let wait = self.below(40);
        Some(Order { blow, after, wait })
    }
}

/// Every place this machine's load reaches: of the whole list of points, which has no entry here that could be forgotten.
fn places(reach: Reach) -> Vec<Place> {
    let points = Point::ALL.iter().map(|point| point.facts());
    let places = points.flat_map(|point| {
        let channels: &[_] = match point.scope {
            Scope::Worker => &[None],
            Scope::Channel => &[
                Some(Target::Disk(0)),
                Some(Target::Disk(1)),
                Some(Target::Console),
                Some(Target::Net(0)),
                Some(Target::Control),
            ],
            Scope::Net => &[Some(Target::Net(0))],
            Scope::Disk => &[Some(Target::Disk(0)), Some(Target::Disk(1))],
            Scope::Console => &[Some(Target::Console)],
        };
        let place = move |&channel| Place {
            point: point.name,
            channel,
        };
        channels.iter().map(place)
    });
    let reached = |place: &Place| match place.channel {
        Some(Target::Net(_)) => reach.net,
        Some(Target::Control) => reach.forward,
        Some(Target::Disk(_) | Target::Console) | None => true,
    };
    places.filter(reached).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Reach = Reach {
        net: true,
        forward: true,
    };

    #[test]
    fn a_seed_is_a_list_and_every_place_comes_before_any_comes_again() {
        let list = |seed| Orders::new(seed, ALL).take(400).collect::<Vec<_>>();
        assert_eq!(list(1), list(1));
        assert_ne!(list(1), list(2));
        let mut orders = Orders::new(1, ALL);
        for kills in [true, false] {
            let mut seen = HashSet::new();
            while seen.len() < orders.places.len() {
                match orders.next().map(|order| order.blow) {
                    Some(Blow::KillAt(place)) if kills => assert!(seen.insert(place), "{place} again"),
                    Some(Blow::StopAt(place, _)) if !kills => assert!(seen.insert(place), "{place} again"),
                    Some(Blow::Kill | Blow::Stop(_) | Blow::Restart) => {}
                    other => panic!("{other:?} before all had theirs"),
                }
            }
            assert!(orders.is_round());
        }
    }
}

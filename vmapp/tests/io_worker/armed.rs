//! A worker with faults armed, and the vmm's side of its channels, for the tests of both.

use super::{LONG, SECTOR, Supervisor, next};
use nix::unistd::Pid;
use shared::msg::control::{Down as Call, Up as Answer};
use shared::msg::disk::{Completion, Down, Request, Status};
use shared::msg::fault::{Injection, MAX_ORDERS, Order};
use shared::msg::handover::{FromApp, NetBackSpec, ToApp};
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use vmapp::fault::spec::Spec;
use vmdriver_shim::channel::Channel;
use vmdriver_shim::handover::{Received, Socket};
use vmdriver_shim::spawn::Child;
use zerocopy::{FromBytes, IntoBytes};

/// Orders of these texts, numbered from `first`.
pub fn orders(first: u32, texts: &[&str]) -> Vec<Order> {
    let read = |text: &&str| match text.parse() {
        Ok(Spec::Arm(fault)) => fault,
        other => panic!("{text}: {other:?}"),
    };
    (first..)
        .zip(texts.iter().map(read))
        .map(|(id, fault)| Order {
            id,
            fault,
            passes: 0,
            struck: 0,
        })
        .collect()
}

pub fn nat() -> Vec<NetBackSpec> {
    vec![NetBackSpec::Nat {
        network: (Ipv4Addr::new(10, 0, 2, 0), 24),
        dns: vec![],
        forwards: vec![],
    }]
}

/// A worker and what it has said.
pub struct Worker {
    pub child: Child,
    pub socket: Socket,
    pub words: Vec<FromApp>,
    pub armed: u32,
}

impl Worker {
    pub fn start(supervisor: &Supervisor, texts: &[&str]) -> Self {
        let (child, socket) = supervisor.spawn(nat(), orders(1, texts));
        Self {
            child,
            socket,
            words: Vec::new(),
            armed: MAX_ORDERS as u32,
        }
    }

    /// Serving, with nothing armed.
    pub fn ready(supervisor: &Supervisor) -> Self {
        let mut worker = Self::start(supervisor, &[]);
        worker.wait_for(|words| words.contains(&FromApp::Ready));
        worker
    }

    /// From now on these are armed, and no others; the worker has taken note.
    pub fn arm(&mut self, texts: &[&str]) {
        self.armed += MAX_ORDERS as u32;
        self.set(orders(self.armed, texts));
        self.words.clear();
    }

    pub fn set(&mut self, orders: Vec<Order>) {
        self.socket.send(&ToApp::Faults(orders.clone()), &[]).unwrap();
        self.wait_for(|words| {
            words.iter().any(|word| match word {
                FromApp::Injected { progress, .. } => progress
                    .iter()
                    .map(|told| told.order)
                    .eq(orders.iter().map(|order| order.id)),
                _ => false,
            })
        });
    }

    pub fn hear(&mut self) {
        while let Received::Message(word, _) = self.socket.recv().unwrap() {
            self.words.push(word);
        }
    }

    pub fn wait_for(&mut self, condition: impl Fn(&[FromApp]) -> bool) {
        let begun = Instant::now();
        loop {
            self.hear();
            if condition(&self.words) {
                return;
            }
            assert!(begun.elapsed() < LONG, "only {:?}", self.words);
            self.socket.wait(Duration::from_millis(100)).unwrap();
        }
    }

    /// What it has told of its injections.
    pub fn injections(&self) -> Vec<Injection> {
        let told = self.words.iter().filter_map(|word| match word {
            FromApp::Injected { injections, .. } => Some(injections.clone()),
            _ => None,
        });
        told.flatten().collect()
    }

    pub fn wait_injected(&mut self, times: u64) {
        self.wait_for(|words| {
            let told = words.iter().filter_map(|word| match word {
                FromApp::Injected { injections, .. } => Some(injections),
                _ => None,
            });
            told.flatten().map(|injection| injection.times).sum::<u64>() >= times
        });
    }

    pub fn hear_to_the_end(&mut self) {
        while let Ok(Received::Message(word, _)) = self.socket.recv() {
            self.words.push(word);
        }
    }

    /// Passes and strikes of an order, as last told.
    pub fn progress(&self, order: u32) -> (u64, u64) {
        let told = self.words.iter().rev().find_map(|word| match word {
            FromApp::Injected { progress, .. } => progress.iter().find(|told| told.order == order),
            _ => None,
        });
        told.map(|told| (told.passes, told.struck)).unwrap()
    }

    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.pid().cast_signed())
    }
}

pub fn call(control: &mut Channel, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        control.push(Call::Echo as u16, id, &[id as u8; 8]).unwrap();
    }
    control.flush().unwrap();
}

/// The answers up to that to `last`.
pub fn answers(control: &mut Channel, last: u64) -> Vec<(u64, Vec<u8>)> {
    let mut answers = Vec::new();
    loop {
        let (kind, id, payload) = next(control);
        assert_eq!(kind, Answer::EchoReply as u16);
        answers.push((id, payload));
        if id == last {
            return answers;
        }
    }
}

pub fn ids(answers: &[(u64, Vec<u8>)]) -> Vec<u64> {
    answers.iter().map(|(id, _)| *id).collect()
}

/// Every slot of the down ring has come back.
pub fn all_given_back(channel: &mut Channel) {
    let begun = Instant::now();
    loop {
        channel.credit().unwrap();
        if channel.in_flight() == 0 {
            return;
        }
        assert!(begun.elapsed() < LONG, "{} slots are gone", channel.in_flight());
        std::thread::yield_now();
    }
}

pub fn request(disk: &mut Channel, id: u64, kind: Down, lba: u64, sectors: u32, byte: u8) {
    let request = Request {
        lba,
        sectors,
        reserved: 0,
    };
    let data = match kind {
        Down::Write => vec![byte; sectors as usize * SECTOR],
        Down::Read | Down::Flush => vec![],
    };
    disk.push(kind as u16, id, &[request.as_bytes(), &data].concat())
        .unwrap();
    disk.flush().unwrap();
}

/// The next completion: id, status, sectors that are right.
pub fn end(disk: &mut Channel) -> (u64, Status, u32) {
    let (_, id, payload) = next(disk);
    let (completion, _) = Completion::read_from_prefix(&payload).unwrap();
    (id, Status::from_shared(completion.status), completion.sectors)
}

pub fn first_bytes(folder: &Path, sectors: std::ops::Range<u64>) -> Vec<u8> {
    let file = File::open(folder.join("raw")).unwrap();
    sectors
        .map(|lba| {
            let mut byte = [0];
            file.read_exact_at(&mut byte, lba * SECTOR as u64).unwrap();
            byte[0]
        })
        .collect()
}

/// "Who has 10.0.2.2?", which the router answers.
pub fn arp() -> Vec<u8> {
    let mac = [2, 0, 0, 0, 0, 1];
    let mut frame = [
        &[0xff; 6][..],
        &mac,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &mac,
        &[10, 0, 2, 15],
    ]
    .concat();
    frame.extend([0; 6]);
    frame.extend([10, 0, 2, 2]);
    frame.resize(60, 0);
    frame
}

//! Differential test of the interpreter: random instructions, one by one, on the interpreter and on the host CPU.
//!
//! A stream starts from random registers, flags and memory; after every instruction both sides must agree in
//! registers, flags, memory, next address and exception. Flags that the architecture leaves undefined are compared
//! where the host is AMD's Zen, which the interpreter follows ([`undefined`]); else they are adopted from the silicon.
//!
//! | variable | meaning |
//! |---|---|
//! | `WORLDSWITCH_STREAMS` | streams for each code size |
//! | `WORLDSWITCH_SEED` | first seed; a failure prints the one to repeat it with |
//! | `WORLDSWITCH_GROUP` | only this group |

mod generate;
mod groups;
mod lockstep;
mod native;
mod random;
mod state;
mod subject;
mod undefined;

use groups::GROUPS;
use lockstep::{Lockstep, Repertoire};
use random::Random;
use state::Bits;

const STREAMS: u64 = 25_000;
const SEED: u64 = 0x5712_0001;
const INSTRUCTIONS: usize = 16;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| {
        let text = text.trim();
        text.strip_prefix("0x")
            .map_or_else(|| text.parse(), |hex| u64::from_str_radix(hex, 16))
            .unwrap_or_else(|_| panic!("{variable}={text} is no number"))
    })
}

fn streams(bits: Bits) {
    let (first, count) = (
        number("WORLDSWITCH_SEED", SEED),
        number("WORLDSWITCH_STREAMS", STREAMS),
    );
    let only = std::env::var("WORLDSWITCH_GROUP").ok();
    let repertoire = Repertoire::new(
        bits,
        GROUPS
            .iter()
            .filter(|g| only.as_ref().is_none_or(|o| o == g.name)),
    );
    let mut lockstep = Lockstep::new(bits);
    println!("{bits:?}: {count} streams from seed {first:#x}");
    for seed in (0..count).map(|n| first.wrapping_add(n)) {
        let mut random = Random::new(seed);
        lockstep.start(&mut random);
        for n in 0..INSTRUCTIONS {
            if let Err(difference) = lockstep.step(&repertoire, &mut random) {
                panic!("instruction {n} of WORLDSWITCH_SEED={seed:#x} WORLDSWITCH_STREAMS=1:\n{difference}");
            }
        }
    }
}

#[test]
fn instructions_of_64_bit_code_agree_with_the_silicon() {
    streams(Bits::B64);
}

#[test]
fn instructions_of_flat_32_bit_code_agree_with_the_silicon() {
    streams(Bits::B32);
}

/// A group whose encodings the generator cannot make, or `adjust` always refuses, tests nothing and says nothing.
#[test]
fn every_encoding_of_every_group_is_generated() {
    for bits in [Bits::B64, Bits::B32] {
        for group in GROUPS {
            for code in group.codes(bits) {
                let mut random = Random::new(SEED);
                let made = (0..1000).any(|_| {
                    generate::Draft::new(&mut random, bits, 0x3000_1000, code).is_some_and(|mut draft| {
                        (group.adjust)(&mut draft).is_some() && draft.encode().is_some()
                    })
                });
                assert!(
                    made || groups::elsewhere(code),
                    "{bits:?} {}: {code:?}",
                    group.name
                );
            }
        }
    }
}

//! Small pieces of user and kernel work, each repeated for a given time: how fast a machine runs code, by kind of code.

use crate::{Answer, Fields, Outcome};
use std::hint::black_box;
use std::time::Instant;

/// Bytes of the kernels that walk through memory: more than a first-level cache, less than a second.
const BYTES: usize = 256 << 10;

type Kernel = fn() -> u64;

/// Name and one round of each, of some microseconds to a millisecond natively.
const KERNELS: &[(&str, Kernel)] = &[
    ("integer", integer),
    ("branches", branches),
    ("calls", calls),
    ("memory", memory),
    ("floating-point", floating),
    ("copy", copy),
    ("sort", sort),
    ("system-calls", system_calls),
    ("page-faults", page_faults),
];

/// Rounds of the kernel `name` for `seconds`, and a sum that every machine must agree on.
pub fn run(fields: &Fields) -> Outcome<Answer> {
    let name: String = fields.get("name")?;
    let seconds = fields.seconds("seconds")?;
    let (_, kernel) = KERNELS
        .iter()
        .find(|(known, _)| *known == name)
        .ok_or_else(|| format!("no kernel {name:?}"))?;
    let sum = kernel();
    let mut rounds = 0_u64;
    let began = Instant::now();
    while began.elapsed() < seconds {
        if kernel() != sum {
            return Err(format!("{name}: two rounds differ").into());
        }
        rounds += 1;
    }
    let took = began.elapsed().as_secs_f64();
    // Exact in the f64 that carries it.
    Ok(vec![
        ("rounds", rounds as f64),
        ("seconds", took),
        ("sum", (sum % (1 << 32)) as f64),
    ])
}

fn integer() -> u64 {
    let mut state = black_box(88_172_645_463_325_252_u64);
    for _ in 0..20_000 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
    }
    state
}

/// Steps of the Collatz sequence: a branch on data at each.
fn branches() -> u64 {
    let mut steps = 0;
    for start in 1..300_u64 {
        let mut n = black_box(start);
        while n != 1 {
            n = if n % 2 == 0 { n / 2 } else { 3 * n + 1 };
            steps += 1;
        }
    }
    steps
}

fn calls() -> u64 {
    #[inline(never)]
    fn fibonacci(n: u64) -> u64 {
        if black_box(n) < 2 {
            n
        } else {
            fibonacci(n - 1) + fibonacci(n - 2)
        }
    }
    fibonacci(18)
}

/// A permutation followed from element to element: loads that depend on each other.
fn memory() -> u64 {
    const WORDS: usize = BYTES / 4;
    let table: Vec<u32> = (0..WORDS)
        .map(|i| ((i * 25_997 + 12_345) % WORDS) as u32)
        .collect();
    let mut at = 0_u32;
    for _ in 0..WORDS {
        at = black_box(&table)[at as usize];
    }
    u64::from(at)
}

fn floating() -> u64 {
    let mut sum = 0.0_f64;
    for i in 1..10_000 {
        let x = black_box(f64::from(i));
        sum += x.sqrt() / (1.0 + x * x);
    }
    sum.to_bits()
}

fn copy() -> u64 {
    let from = vec![0x5a_u8; BYTES];
    let mut to = vec![0; BYTES];
    for _ in 0..8 {
        black_box(&mut to).copy_from_slice(black_box(&from));
    }
    u64::from(to[BYTES - 1])
}

fn sort() -> u64 {
    let mut state = 1_u64;
    let mut numbers: Vec<u64> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        state >> 33
    })
    .take(2000)
    .collect();
    numbers.sort_unstable();
    numbers[1000]
}

/// getppid, which std calls at each time.
fn system_calls() -> u64 {
    (0..200).for_each(|_| {
        black_box(std::os::unix::process::parent_id());
    });
    200
}

/// Fresh memory, a byte touched in each of some pages, and given back: more than the allocator ever keeps for itself.
fn page_faults() -> u64 {
    const PAGES: usize = 256;
    let mut fresh = vec![0_u8; 33 << 20];
    let touched = || (0..PAGES).map(|page| page << 12);
    touched().for_each(|at| fresh[at] = 1);
    let fresh = black_box(&fresh);
    touched().map(|at| u64::from(fresh[at])).sum()
}

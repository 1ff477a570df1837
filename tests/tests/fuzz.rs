//! Every fuzz target on stable Rust: over the committed corpus, over random bytes, and all of them known to
//! cargo-fuzz.

use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tests::fuzz::TARGETS;

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

#[test]
fn every_committed_input_still_passes() {
    for target in TARGETS {
        let corpus = workspace().join("corpus").join(target.name);
        let entries = fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        let mut count = 0;
        for entry in entries {
            let path = entry.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            println!("{}", path.display()); // shown if it panics
            (target.run)(&bytes);
            count += 1;
        }
        assert!(count > 0, "{} is empty", corpus.display());
    }
}

#[test]
fn cargo_fuzz_has_the_same_targets() {
    let manifest = fs::read_to_string(workspace().join("Cargo.toml")).unwrap();
    let binaries: BTreeSet<&str> = (manifest.split("[[bin]]").skip(1))
        .filter_map(|bin| bin.split('"').nth(1))
        .collect();
    let targets: BTreeSet<&str> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(binaries, targets);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1000) })]
    #[test]
    fn random_input_passes_and_gives_the_same_twice(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        for target in TARGETS {
            prop_assert_eq!((target.run)(&bytes), (target.run)(&bytes), "{}", target.name);
        }
    }
}

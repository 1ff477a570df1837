//! `peer_vmm` of `tests/src/fuzz` under libFuzzer.
#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    tests::fuzz::run("peer_vmm", bytes);
});

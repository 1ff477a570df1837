//! The CPU model: which processor the guest sees, whatever engine executes it.
//!
//! One table of features ([`features`]), one of model-specific registers ([`msrs`]), and [`CpuModel`], which answers
//! CPUID from them. Software engines ask it at every CPUID; `kvm` loads its answers into the kernel once. The level is
//! x86-64-v2 plus what kernels are better with. Nothing here asks the host: an engine says what it lacks
//! ([`CpuModel::mask`]) and the model shrinks. A hidden feature must raise #UD or #GP where the engine can make it so.
//!
//! **Vendor.** Software engines show an AMD Zen 3 ([`SIGNATURE`]): AMD's SYSCALL works in compatibility mode as in
//! 64-bit mode, and Linux takes AMD as free of Meltdown, L1TF and MDS, so the guest does not pay for curing leaks an
//! engine of software does not have. Under `kvm` the silicon decides how SYSCALL and SYSENTER behave and which
//! errata apply, so there the guest sees the host's vendor, family and cures ([`CpuModel::adopt_silicon`]).
//!
//! **Frequencies.** Leaf 0x40000010 (VMware's, in kHz) tells whoever asks. Leaves 0x15 and 0x16 are left out on
//! purpose: Linux takes 0x15 as exact and as the APIC's clock as well, computes it in 32 bits, and no crystal and
//! ratio give both frequencies exactly; so it calibrates against PIT and PM timer, and refines. The signature is
//! not VMware's although Linux would then read 0x40000010: it would promise VMware's backdoor port.

pub mod features;
pub mod msrs;

use features::{FEATURES, Origin};
pub use msrs::{Answer, MSRS, Msr, msr};

/// CPUID leaf 1 EAX of the default model, and EDX after RESET: family 0x19, model 1, stepping 1.
pub const SIGNATURE: u32 = 0x00a0_0f11;
/// Frequency at which the chipset's local APIC timer counts before its divider, in kHz.
pub const APIC_BUS_KHZ: u32 = 1_000_000;
/// Bytes of XSAVE image for x87 and SSE: legacy area and header.
pub const XSAVE_BYTES: usize = 576;
/// State components the model has: x87 and SSE (XCR0 bits).
pub const XCR0_SUPPORTED: u64 = 0b11;
/// Signature of the hypervisor leaf.
pub const HYPERVISOR: &[u8; 12] = b"WorldSwitch ";
/// Brand string.
pub const BRAND: &str = "Worldswitch virtual CPU";

const VENDOR_AMD: &[u8; 12] = b"AuthenticAMD";
/// Guest-physical address bits: the largest machine's RAM ends just above 2^40.
const PHYSICAL_BITS: u32 = 42;
const LINEAR_BITS: u32 = 48;
const LAST_BASIC: u32 = 0xd;
const LAST_HYPERVISOR: u32 = 0x4000_0010;
const LAST_EXTENDED: u32 = 0x8000_0021;
/// Bits of leaf 1 EDX that AMD repeats in 8000_0001 EDX.
const AMD_REPEATED: u32 = 0x0183_f3ff;
const CR4_OSXSAVE: u64 = 1 << 18;
const OSXSAVE: u32 = 1 << 27;

/// Answers the host, or an engine, gives to CPUID: (leaf, subleaf) to EAX, EBX, ECX, EDX.
pub type Cpuid<'a> = &'a dyn Fn(u32, u32) -> [u32; 4];

/// What CPUID's answers depend on at run time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dynamic {
    /// CR4: OSXSAVE is shown as it is there.
    pub cr4: u64,
    /// XCR0: the size of the enabled state.
    pub xcr0: u64,
    /// APIC id.
    pub apic_id: u32,
}

/// A data or instruction cache; sizes chosen so that C libraries pick sane thresholds for block copies.
struct Cache {
    level: u32,
    /// Leaf 4: 1 data, 2 instruction, 3 unified.
    kind: u32,
    bytes: u32,
    ways: u32,
}
const LINE: u32 = 64;
const CACHES: [Cache; 4] = [
    Cache {
        level: 1,
        kind: 1,
        bytes: 32 << 10,
        ways: 8,
    },
    Cache {
        level: 1,
        kind: 2,
        bytes: 32 << 10,
        ways: 8,
    },
    Cache {
        level: 2,
        kind: 3,
        bytes: 512 << 10,
        ways: 8,
    },
    Cache {
        level: 3,
        kind: 3,
        bytes: 16 << 20,
        ways: 16,
    },
];

/// The processor the guest sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuModel {
    vendor: [u8; 12],
    signature: u32,
    /// One bit per row of [`FEATURES`].
    offered: u128,
    physical_bits: u32,
    tsc_khz: u32,
}

const _: () = assert!(FEATURES.len() <= 128);

impl CpuModel {
    /// x86-64-v2 and friends, on an AMD processor; TSC frequency not known yet.
    pub fn default_level() -> Self {
        let offered = FEATURES
            .iter()
            .enumerate()
            .filter(|(_, feature)| feature.origin != Origin::Silicon)
            .fold(0, |bits, (i, _)| bits | 1 << i);
        Self {
            vendor: *VENDOR_AMD,
            signature: SIGNATURE,
            offered,
            physical_bits: PHYSICAL_BITS,
            tsc_khz: 0,
        }
    }

    /// Whether the guest is offered the feature of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names().any(|n| n == name)
    }

    /// Names of the features offered.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        let offered = |i: usize| self.offered & 1 << i != 0;
        FEATURES
            .iter()
            .enumerate()
            .filter(move |&(i, _)| offered(i))
            .map(|(_, f)| f.name)
    }

    /// Takes a feature away.
    pub fn hide(&mut self, name: &str) {
        for (i, feature) in FEATURES.iter().enumerate() {
            if feature.name == name {
                self.offered &= !(1 << i);
            }
        }
    }

    /// Takes away what `host` lacks, and names it. Features of the machine stay: they need nothing of a host CPU.
    pub fn mask(&mut self, host: Cpuid<'_>) -> Vec<&'static str> {
        let mut missing = Vec::new();
        for (i, feature) in FEATURES.iter().enumerate() {
            let offered = self.offered & 1 << i != 0;
            if offered && feature.origin != Origin::Machine && !host_has(host, feature) {
                self.offered &= !(1 << i);
                missing.push(feature.name);
            }
        }
        let host_bits = host(0x8000_0008, 0)[0] & 0xff;
        if host_bits != 0 {
            self.physical_bits = self.physical_bits.min(host_bits);
        }
        missing
    }

    /// Takes on what a guest is really shown: features of the CPU that `shown` has come back, however they got there.
    pub fn see(&mut self, shown: Cpuid<'_>) {
        for (i, feature) in FEATURES.iter().enumerate() {
            if feature.origin == Origin::Cpu {
                let bit = u128::from(host_has(shown, feature)) << i;
                self.offered = self.offered & !(1 << i) | bit;
            }
        }
    }

    /// Feature bits in `shown` that the model does not have, as "leaf.register: bits".
    pub fn beyond(&self, shown: Cpuid<'_>) -> Vec<String> {
        const BITS: [(u32, usize, &str); 6] = [
            (1, 2, "1.ECX"),
            (1, 3, "1.EDX"),
            (7, 1, "7.EBX"),
            (7, 2, "7.ECX"),
            (7, 3, "7.EDX"),
            (0x8000_0001, 2, "80000001.ECX"),
        ];
        let extra = |(leaf, register, name): (u32, usize, &str)| {
            let own = self.cpuid(leaf, 0, &Dynamic::default())[register];
            let extra = shown(leaf, 0)[register] & !own;
            (extra != 0).then(|| format!("{name}: {extra:#x}"))
        };
        BITS.into_iter().filter_map(extra).collect()
    }

    /// Names of the features this model has and `other` has not.
    pub fn lost_in(&self, other: &Self) -> Vec<&'static str> {
        self.names().filter(|name| !other.has(name)).collect()
    }

    /// Shows the host's vendor, family, model and stepping, and the leaks and cures it names: for engines where
    /// guest code runs on the host's silicon.
    pub fn adopt_silicon(&mut self, host: Cpuid<'_>) {
        let [_, ebx, ecx, edx] = host(0, 0);
        for (piece, reg) in self.vendor.chunks_exact_mut(4).zip([ebx, edx, ecx]) {
            piece.copy_from_slice(&reg.to_le_bytes());
        }
        self.signature = host(1, 0)[0];
        for (i, feature) in FEATURES.iter().enumerate() {
            if feature.origin == Origin::Silicon && host_has(host, feature) {
                self.offered |= 1 << i;
            }
        }
    }

    /// Bits of a physical address.
    pub fn physical_bits(&self) -> u8 {
        self.physical_bits as u8
    }

    /// Says at what frequency the guest's time stamp counter runs.
    pub fn set_tsc_khz(&mut self, khz: u32) {
        self.tsc_khz = khz;
    }

    /// The frequency of the guest's time stamp counter in kHz; 0 if not said yet.
    pub fn tsc_khz(&self) -> u32 {
        self.tsc_khz
    }

    /// What CPUID answers: EAX, EBX, ECX, EDX. Zeros for every leaf the model does not have.
    pub fn cpuid(&self, leaf: u32, subleaf: u32, now: &Dynamic) -> [u32; 4] {
        let mut answer = match leaf {
            0 => {
                let [ebx, edx, ecx] = words(&self.vendor);
                [LAST_BASIC, ebx, ecx, edx]
            }
            // EBX: CLFLUSH line in 8-byte units, one logical processor.
            1 => [
                self.signature,
                now.apic_id << 24 | 1 << 16 | (LINE / 8) << 8,
                0,
                0,
            ],
            // AMD describes caches in 8000_0005 and 8000_0006, Intel in 4 (descriptor FF of leaf 2 says so).
            2 | 4 if &self.vendor == VENDOR_AMD => [0; 4],
            2 => [0x00ff_ff01, 0, 0, 0],
            4 => CACHES.get(subleaf as usize).map_or([0; 4], cache_leaf),
            // Two topology levels of one processor each.
            0xb => match subleaf {
                0 => [0, 1, 1 << 8, now.apic_id],
                1 => [0, 1, 2 << 8 | 1, now.apic_id],
                _ => [0, 0, subleaf & 0xff, now.apic_id],
            },
            0xd if self.has("XSAVE") && subleaf == 0 => {
                let bytes = XSAVE_BYTES as u32;
                [XCR0_SUPPORTED as u32, bytes, bytes, 0]
            }
            0x4000_0000 => {
                let [ebx, ecx, edx] = words(HYPERVISOR);
                [LAST_HYPERVISOR, ebx, ecx, edx]
            }
            0x4000_0010 => [self.tsc_khz, APIC_BUS_KHZ, 0, 0],
            0x8000_0000 => {
                let [ebx, edx, ecx] = words(&self.vendor);
                [LAST_EXTENDED, ebx, ecx, edx]
            }
            0x8000_0001 => [self.signature, 0, 0, 0],
            0x8000_0002..=0x8000_0004 => brand_leaf(leaf - 0x8000_0002),
            0x8000_0005 => [0, 0, amd_l1(&CACHES[0]), amd_l1(&CACHES[1])],
            0x8000_0006 => amd_l2_l3(),
            0x8000_0008 => [LINEAR_BITS << 8 | self.physical_bits, 0, 0, 0],
            _ => [0; 4],
        };
        // AMD and Intel ignore ECX where a leaf has no subleaves; leaf 7 is the one with bits that has.
        if leaf != 7 || subleaf == 0 {
            for (register, bits) in answer.iter_mut().zip(self.feature_bits(leaf)) {
                *register |= bits;
            }
        }
        if leaf == 1 && self.has("XSAVE") && now.cr4 & CR4_OSXSAVE != 0 {
            answer[2] |= OSXSAVE;
        }
        if leaf == 0x8000_0001 && &self.vendor == VENDOR_AMD {
            answer[3] |= self.feature_bits(1)[3] & AMD_REPEATED;
        }
        answer
    }

    /// The leaves and subleaves with an answer, ascending: what an engine that keeps a table loads. The flag says
    /// whether the leaf has subleaves.
    pub fn leaves(&self) -> Vec<(u32, u32, bool)> {
        let basic = 0..=LAST_BASIC;
        let hypervisor = [0x4000_0000, LAST_HYPERVISOR];
        let extended = 0x8000_0000..=LAST_EXTENDED;
        let mut leaves = Vec::new();
        for leaf in basic.chain(hypervisor).chain(extended) {
            let subleaves = match leaf {
                4 => CACHES.len() as u32 + 1,
                0xb => 3,
                0xd => 2,
                _ => 1,
            };
            let indexed = matches!(leaf, 4 | 7 | 0xb | 0xd);
            leaves.extend((0..subleaves).map(|subleaf| (leaf, subleaf, indexed)));
        }
        leaves
    }

    /// The row of a register, if this model has it.
    pub fn msr(&self, index: u32) -> Option<&'static Msr> {
        msr(index).filter(|row| row.needs.is_empty() || row.needs.iter().any(|feature| self.has(feature)))
    }

    /// Indices of the registers that [`CpuState::msrs`](super::state::CpuState::msrs) holds, ascending.
    pub fn saved_msrs(&self) -> Vec<u32> {
        MSRS.iter()
            .filter(|row| row.answer == Answer::Saved && self.msr(row.first).is_some())
            .flat_map(|row| row.first..=row.last)
            .collect()
    }

    fn feature_bits(&self, leaf: u32) -> [u32; 4] {
        let mut bits = [0; 4];
        for (i, feature) in FEATURES.iter().enumerate() {
            if feature.leaf == leaf && self.offered & 1 << i != 0 {
                bits[feature.reg as usize] |= 1 << feature.bit;
            }
        }
        bits
    }
}

fn host_has(host: Cpuid<'_>, feature: &features::Feature) -> bool {
    host(feature.leaf, 0)[feature.reg as usize] & 1 << feature.bit != 0
}

fn words(text: &[u8; 12]) -> [u32; 3] {
    let (words, _) = text.as_chunks::<4>();
    let mut out = [0; 3];
    for (to, from) in out.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*from);
    }
    out
}

fn brand_leaf(piece: u32) -> [u32; 4] {
    let mut text = [0; 48];
    for (to, from) in text.iter_mut().zip(BRAND.bytes()) {
        *to = from;
    }
    let (words, _) = text.as_chunks::<4>();
    let mut out = [0; 4];
    for (to, from) in out.iter_mut().zip(words.iter().skip(piece as usize * 4)) {
        *to = u32::from_le_bytes(*from);
    }
    out
}

/// Leaf 4: self-initializing, shared by one processor.
fn cache_leaf(cache: &Cache) -> [u32; 4] {
    let sets = cache.bytes / (cache.ways * LINE);
    [
        cache.kind | cache.level << 5 | 1 << 8,
        (cache.ways - 1) << 22 | (LINE - 1),
        sets - 1,
        0,
    ]
}

fn amd_l1(cache: &Cache) -> u32 {
    (cache.bytes >> 10) << 24 | cache.ways << 16 | 1 << 8 | LINE
}

/// Leaf 8000_0006; associativity codes 6 (8 ways) and 8 (16 ways), L3 in units of 512 KiB.
fn amd_l2_l3() -> [u32; 4] {
    let l2 = (CACHES[2].bytes >> 10) << 16 | 6 << 12 | 1 << 8 | LINE;
    let l3 = (CACHES[3].bytes >> 19) << 18 | 8 << 12 | 1 << 8 | LINE;
    [0, 0, l2, l3]
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERYTHING: Cpuid<'static> = &|_, _| [u32::MAX; 4];

    fn text(registers: &[u32]) -> Vec<u8> {
        registers.iter().flat_map(|r| r.to_le_bytes()).collect()
    }

    #[test]
    fn the_rows_are_distinct_and_in_range() {
        for (i, a) in FEATURES.iter().enumerate() {
            assert!(a.bit < 32);
            for b in &FEATURES[i + 1..] {
                assert_ne!((a.leaf, a.reg, a.bit), (b.leaf, b.reg, b.bit));
                assert_ne!(a.name, b.name);
            }
        }
        for pair in MSRS.windows(2) {
            assert!(
                pair[0].first <= pair[0].last && pair[0].last < pair[1].first,
                "{pair:x?}"
            );
        }
        for row in MSRS {
            assert!(
                row.needs.iter().all(|n| FEATURES.iter().any(|f| f.name == *n)),
                "{row:?}"
            );
        }
    }

    #[test]
    fn the_level_is_x86_64_v2() {
        // The psABI's list for v1 and v2.
        let model = CpuModel::default_level();
        let [_, _, ecx, edx] = model.cpuid(1, 0, &Dynamic::default());
        let v2 = 1 << 0 | 1 << 9 | 1 << 13 | 1 << 19 | 1 << 20 | 1 << 23;
        assert_eq!(ecx & v2, v2);
        let v1 = 1 << 0 | 1 << 8 | 1 << 15 | 1 << 23 | 1 << 24 | 1 << 25 | 1 << 26;
        assert_eq!(edx & v1, v1);
        assert_eq!(model.cpuid(0x8000_0001, 0, &Dynamic::default())[2] & 1, 1);
        // Not more: AVX, FMA and BMI are v3.
        assert_eq!(ecx & (1 << 28 | 1 << 12), 0);
        assert_eq!(
            model.cpuid(7, 0, &Dynamic::default())[1] & (1 << 3 | 1 << 5 | 1 << 8),
            0
        );
    }

    #[test]
    fn osxsave_mirrors_cr4() {
        let model = CpuModel::default_level();
        let on = Dynamic {
            cr4: CR4_OSXSAVE,
            ..Dynamic::default()
        };
        assert_eq!(model.cpuid(1, 0, &Dynamic::default())[2] & OSXSAVE, 0);
        assert_eq!(model.cpuid(1, 0, &on)[2] & OSXSAVE, OSXSAVE);
    }

    #[test]
    fn the_texts_read_right() {
        let model = CpuModel::default_level();
        let now = Dynamic::default();
        let [_, ebx, ecx, edx] = model.cpuid(0, 0, &now);
        assert_eq!(text(&[ebx, edx, ecx]), VENDOR_AMD);
        let [_, ebx, ecx, edx] = model.cpuid(0x4000_0000, 0, &now);
        assert_eq!(text(&[ebx, ecx, edx]), HYPERVISOR);
        let brand: Vec<u32> = (0x8000_0002..=0x8000_0004)
            .flat_map(|l| model.cpuid(l, 0, &now))
            .collect();
        assert!(text(&brand).starts_with(b"Worldswitch virtual CPU\0"));
        assert_eq!(brand.len() * 4, 48);
    }

    #[test]
    fn masking_names_what_the_host_lacks_and_spares_the_machine() {
        let mut model = CpuModel::default_level();
        assert!(model.mask(EVERYTHING).is_empty());
        let missing = model.mask(&|leaf, _| if leaf == 1 { [0; 4] } else { [u32::MAX; 4] });
        assert!(missing.contains(&"SSE4_2") && !missing.contains(&"NX"));
        assert!(model.has("X2APIC") && model.has("APIC") && !model.has("SSE4_2"));
        assert!(model.mask(EVERYTHING).is_empty());
    }

    #[test]
    fn what_a_guest_is_really_shown_counts() {
        let asked = CpuModel::default_level();
        let mut model = asked.clone();
        model.mask(&|_, _| [0; 4]);
        assert!(asked.lost_in(&model).contains(&"SSE3"));
        // A host that shows SSE3 and AVX although neither was asked for.
        let shown = |leaf, _| if leaf == 1 { [0, 0, 1 | 1 << 28, 0] } else { [0; 4] };
        model.see(&shown);
        assert!(model.has("SSE3") && !model.has("SSE4_2") && model.has("APIC"));
        assert_eq!(model.beyond(&shown), ["1.ECX: 0x10000000"]);
    }

    #[test]
    fn silicon_shows_only_where_it_is_adopted() {
        let mut model = CpuModel::default_level();
        assert!(!model.has("SPEC_CTRL") && model.msr(0x48).is_none());
        let host = |leaf, _| match leaf {
            0 => {
                let [ebx, edx, ecx] = words(b"GenuineIntel");
                [0x20, ebx, ecx, edx]
            }
            1 => [0x000c_06f2, 0, 0, 0],
            _ => [u32::MAX; 4],
        };
        model.adopt_silicon(&host);
        let now = Dynamic::default();
        assert!(model.has("SPEC_CTRL") && model.msr(0x48).is_some());
        assert_eq!(model.cpuid(1, 0, &now)[0], 0x000c_06f2);
        // Intel does not repeat leaf 1 in 8000_0001.
        assert_eq!(model.cpuid(0x8000_0001, 0, &now)[3] & 1, 0);
        model.hide("ARCH_CAPABILITIES");
        assert!(model.msr(msrs::ARCH_CAPABILITIES).is_none());
    }

    #[test]
    fn cache_leaves_multiply_to_the_sizes() {
        let mut model = CpuModel::default_level();
        let now = Dynamic::default();
        assert_eq!(model.cpuid(4, 0, &now), [0; 4], "AMD");
        model.vendor = *b"GenuineIntel";
        for (i, cache) in CACHES.iter().enumerate() {
            let [eax, ebx, ecx, _] = model.cpuid(4, i as u32, &Dynamic::default());
            let bytes = ((ebx >> 22) + 1) * ((ebx & 0xfff) + 1) * (ecx + 1);
            assert_eq!((bytes, eax >> 5 & 7), (cache.bytes, cache.level));
        }
        assert_eq!(model.cpuid(4, 4, &Dynamic::default())[0], 0);
    }

    #[test]
    fn registers_are_found_inside_runs_only() {
        for (index, name) in [
            (0x10, Some("TSC")),
            (0x11, None),
            (0x20f, Some("MTRR_PHYS")),
            (0x210, None),
        ] {
            assert_eq!(msr(index).map(|m| m.name), name, "{index:#x}");
        }
        assert_eq!(msr(0).map(|m| m.name), None);
        assert_eq!(msr(u32::MAX).map(|m| m.name), None);
    }
}

//! Between [`CpuState`] and KVM's structures; pure.
//!
//! What KVM keeps that the state does not name: the local APIC base (the chipset's; KVM only derives CPUID's APIC bit
//! from it, so it gets the RESET value), and the kind of an injected event (software interrupts are restarted by the
//! instruction and never saved, see KVM_GET_VCPU_EVENTS).

use crate::engine::cpu_model::{XCR0_SUPPORTED, XSAVE_BYTES, msr, msrs::APIC_BASE};
use crate::engine::state::{CpuState, Gprs, Pending, Segment, TableRegister};
use kvm_bindings::{
    KVM_VCPUEVENT_VALID_NMI_PENDING, KVM_VCPUEVENT_VALID_SHADOW, KVM_X86_SHADOW_INT_MOV_SS,
    KVM_X86_SHADOW_INT_STI, kvm_debugregs, kvm_dtable, kvm_regs, kvm_segment, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs, kvm_xsave,
};

pub(super) fn to_regs(state: &CpuState) -> kvm_regs {
    let [
        rax,
        rcx,
        rdx,
        rbx,
        rsp,
        rbp,
        rsi,
        rdi,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
    ] = state.gprs;
    kvm_regs {
        rax,
        rbx,
        rcx,
        rdx,
        rsi,
        rdi,
        rsp,
        rbp,
        r8,
        r9,
        r10,
        r11,
        r12,
        r13,
        r14,
        r15,
        rip: state.rip,
        rflags: state.rflags,
    }
}

pub(super) fn gprs(regs: &kvm_regs) -> Gprs {
    [
        regs.rax, regs.rcx, regs.rdx, regs.rbx, regs.rsp, regs.rbp, regs.rsi, regs.rdi, regs.r8, regs.r9,
        regs.r10, regs.r11, regs.r12, regs.r13, regs.r14, regs.r15,
    ]
}

pub(super) fn to_segment(segment: &Segment) -> kvm_segment {
    let bits = |first: u32, mask: u32| (segment.attributes >> first & mask) as u8;
    kvm_segment {
        base: segment.base,
        limit: segment.limit,
        selector: segment.selector,
        type_: bits(0, 0xf),
        s: bits(4, 1),
        dpl: bits(5, 3),
        present: bits(7, 1),
        avl: bits(12, 1),
        l: bits(13, 1),
        db: bits(14, 1),
        g: bits(15, 1),
        unusable: bits(16, 1),
        padding: 0,
    }
}

pub(super) fn segment(from: &kvm_segment) -> Segment {
    let fields = [
        (from.type_, 0, 0xf),
        (from.s, 4, 1),
        (from.dpl, 5, 3),
        (from.present, 7, 1),
        (from.avl, 12, 1),
        (from.l, 13, 1),
        (from.db, 14, 1),
        (from.g, 15, 1),
        (from.unusable, 16, 1),
    ];
    let attributes = fields.into_iter().fold(0, |bits, (value, first, mask)| {
        bits | (u32::from(value) & mask) << first
    });
    Segment {
        selector: from.selector,
        base: from.base,
        limit: from.limit,
        attributes,
    }
}

fn to_table(table: &TableRegister) -> kvm_dtable {
    kvm_dtable {
        base: table.base,
        limit: table.limit,
        padding: [0; 3],
    }
}

fn table(from: &kvm_dtable) -> TableRegister {
    TableRegister {
        base: from.base,
        limit: from.limit,
    }
}

pub(super) fn to_sregs(state: &CpuState) -> kvm_sregs {
    let [es, cs, ss, ds, fs, gs] = state.segments.user.each_ref().map(to_segment);
    kvm_sregs {
        cs,
        ds,
        es,
        fs,
        gs,
        ss,
        tr: to_segment(&state.segments.tr),
        ldt: to_segment(&state.segments.ldtr),
        gdt: to_table(&state.gdtr),
        idt: to_table(&state.idtr),
        cr0: state.cr0,
        cr2: state.cr2,
        cr3: state.cr3,
        cr4: state.cr4,
        cr8: state.cr8,
        efer: state.efer,
        apic_base: msr(APIC_BASE).map_or(0, |row| row.reset),
        interrupt_bitmap: [0; 4],
    }
}

/// Takes over everything KVM_GET_SREGS knows.
pub(super) fn take_sregs(state: &mut CpuState, from: &kvm_sregs) {
    state.segments.user = [&from.es, &from.cs, &from.ss, &from.ds, &from.fs, &from.gs].map(segment);
    state.segments.tr = segment(&from.tr);
    state.segments.ldtr = segment(&from.ldt);
    state.gdtr = table(&from.gdt);
    state.idtr = table(&from.idt);
    state.cr0 = from.cr0;
    state.cr2 = from.cr2;
    state.cr3 = from.cr3;
    state.cr4 = from.cr4;
    state.cr8 = from.cr8;
    state.efer = from.efer;
}

pub(super) fn to_debugregs(debug: &[u64; 6]) -> kvm_debugregs {
    let [a, b, c, d, dr6, dr7] = *debug;
    kvm_debugregs {
        db: [a, b, c, d],
        dr6,
        dr7,
        ..kvm_debugregs::default()
    }
}

pub(super) fn debug(from: &kvm_debugregs) -> [u64; 6] {
    let [a, b, c, d] = from.db;
    [a, b, c, d, from.dr6, from.dr7]
}

pub(super) fn to_xcrs(xcr0: u64) -> kvm_xcrs {
    let mut xcrs = kvm_xcrs {
        nr_xcrs: 1,
        ..kvm_xcrs::default()
    };
    xcrs.xcrs[0].value = xcr0;
    xcrs
}

/// XCR0; 1 (x87) where KVM names none.
pub(super) fn xcr0(from: &kvm_xcrs) -> u64 {
    let known = (from.nr_xcrs as usize).min(from.xcrs.len());
    let first = from.xcrs[..known].iter().find(|x| x.xcr == 0);
    first.map_or(1, |x| x.value)
}

pub(super) fn to_xsave(image: &[u8]) -> kvm_xsave {
    let mut xsave = kvm_xsave::default();
    let (words, _) = image.as_chunks::<4>();
    for (to, from) in xsave.region.iter_mut().zip(words) {
        *to = u32::from_le_bytes(*from);
    }
    xsave
}

/// The image, cut to the model's components. KVM fills components that are in their initial state with it, so
/// the header may call all of them present.
pub(super) fn xsave(from: &kvm_xsave) -> Vec<u8> {
    let words = from.region.iter().take(XSAVE_BYTES / 4);
    let mut image: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
    image[512..520].copy_from_slice(&XCR0_SUPPORTED.to_le_bytes());
    image
}

pub(super) fn to_events(pending: &Pending) -> kvm_vcpu_events {
    let mut events = kvm_vcpu_events::default();
    if let Some((vector, code)) = pending.exception {
        events.exception.injected = 1;
        events.exception.nr = vector;
        events.exception.has_error_code = code.is_some().into();
        events.exception.error_code = code.unwrap_or(0);
    }
    if let Some(vector) = pending.interrupt {
        events.interrupt.injected = 1;
        events.interrupt.nr = vector;
    }
    let sti = if pending.sti_shadow {
        KVM_X86_SHADOW_INT_STI
    } else {
        0
    };
    let mov_ss = if pending.mov_ss_shadow {
        KVM_X86_SHADOW_INT_MOV_SS
    } else {
        0
    };
    events.interrupt.shadow = (sti | mov_ss) as u8;
    events.nmi.pending = pending.nmi_pending.into();
    events.nmi.masked = pending.nmi_masked.into();
    events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    events
}

/// `halted` is not KVM's to say while the chipset is ours.
pub(super) fn pending(from: &kvm_vcpu_events, halted: bool) -> Pending {
    let exception = &from.exception;
    let shadow = u32::from(from.interrupt.shadow);
    Pending {
        sti_shadow: shadow & KVM_X86_SHADOW_INT_STI != 0,
        mov_ss_shadow: shadow & KVM_X86_SHADOW_INT_MOV_SS != 0,
        // One on its way into the guest masks itself only when it has arrived.
        nmi_masked: from.nmi.masked != 0 && from.nmi.injected == 0,
        nmi_pending: from.nmi.pending != 0 || from.nmi.injected != 0,
        exception: (exception.injected != 0 || exception.pending != 0).then(|| {
            let code = (exception.has_error_code != 0).then_some(exception.error_code);
            (exception.nr, code)
        }),
        interrupt: (from.interrupt.injected != 0 && from.interrupt.soft == 0).then_some(from.interrupt.nr),
        halted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every field another value, so that a mix-up shows.
    fn distinct() -> CpuState {
        let mut state = CpuState::long64(0x1234, 0x5000);
        state.gprs = std::array::from_fn(|i| 100 + i as u64);
        for (i, segment) in state.segments.user.iter_mut().enumerate() {
            segment.selector = 8 * (i as u16 + 1);
            segment.base = 0x1000 * i as u64;
            segment.limit = 0xffff - i as u32;
        }
        state.segments.user[3].attributes = 0x1_d0f7;
        state.segments.ldtr.base = 0x7000;
        state.segments.tr.base = 0x8000;
        state.gdtr = TableRegister {
            base: 0x9000,
            limit: 0x7f,
        };
        state.idtr = TableRegister {
            base: 0xa000,
            limit: 0xfff,
        };
        state.cr2 = 0xb000;
        state.cr8 = 7;
        state.debug = [1, 2, 3, 4, 0xffff_0ff1, 0x401];
        state
    }

    #[test]
    fn registers_survive_the_way_there_and_back() {
        let state = distinct();
        let regs = to_regs(&state);
        assert_eq!((regs.rax, regs.rcx, regs.rsp, regs.r15), (100, 101, 104, 115));
        assert_eq!(gprs(&regs), state.gprs);
        assert_eq!(debug(&to_debugregs(&state.debug)), state.debug);
        assert_eq!(xcr0(&to_xcrs(3)), 3);
        let sregs = to_sregs(&state);
        assert_eq!((sregs.ss.selector, sregs.ds.selector), (24, 32));
        let mut back = CpuState {
            gprs: state.gprs,
            rip: state.rip,
            debug: state.debug,
            ..CpuState::reset()
        };
        take_sregs(&mut back, &sregs);
        back.msrs.clone_from(&state.msrs);
        assert_eq!(back, state);
    }

    #[test]
    fn attributes_map_bit_by_bit() {
        for bit in (0..8).chain(12..=16) {
            let one = Segment {
                attributes: 1 << bit,
                ..Segment::default()
            };
            assert_eq!(segment(&to_segment(&one)), one, "bit {bit}");
        }
        let code64 = to_segment(&CpuState::long64(0, 0).segments.user[1]);
        assert_eq!((code64.type_, code64.s, code64.present), (0xb, 1, 1));
        assert_eq!((code64.l, code64.db, code64.g, code64.unusable), (1, 0, 1, 0));
    }

    #[test]
    fn events_survive_the_way_there_and_back() {
        let table = [
            Pending::default(),
            Pending {
                sti_shadow: true,
                nmi_masked: true,
                ..Pending::default()
            },
            Pending {
                mov_ss_shadow: true,
                nmi_pending: true,
                ..Pending::default()
            },
            Pending {
                exception: Some((14, Some(2))),
                ..Pending::default()
            },
            Pending {
                exception: Some((6, None)),
                halted: true,
                ..Pending::default()
            },
            Pending {
                interrupt: Some(0x30),
                ..Pending::default()
            },
        ];
        for events in table {
            assert_eq!(pending(&to_events(&events), events.halted), events);
        }
    }

    #[test]
    fn software_interrupts_and_nmis_on_their_way_are_saved_to_be_repeated() {
        let mut events = to_events(&Pending::default());
        (events.interrupt.injected, events.interrupt.soft) = (1, 1);
        (events.nmi.injected, events.nmi.masked) = (1, 1);
        let saved = pending(&events, false);
        assert_eq!(saved.interrupt, None);
        assert!(saved.nmi_pending && !saved.nmi_masked);
    }

    #[test]
    fn the_fpu_image_keeps_its_bytes() {
        let image: Vec<u8> = (0..512u32).map(|i| i as u8).chain([3]).chain([0; 63]).collect();
        assert_eq!(xsave(&to_xsave(&image)), image);
    }
}

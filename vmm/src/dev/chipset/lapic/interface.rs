//! The two ways to the registers: the page in memory (xAPIC) and the MSRs (x2APIC), over one register file.
//!
//! The manual leaves accesses to the page that are not aligned 32-bit ones undefined. Here, as in KVM, a byte
//! or word inside the low 32 bits of a register reads its part; every other read, and every narrow or wide
//! write, is no access.

use super::delivery::ApicError;
use super::registers::{DIVIDE_WRITABLE, ICR_WRITABLE, Lvt, Register, SVR_WRITABLE};
use super::{
    LVT_MASKED, LVT_REMOTE_IRR, LocalApic, MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC_FIRST,
    MSR_X2APIC_LAST, Mode, MsrFault, SVR_ENABLED,
};
use crate::bus::{Access, Mmio, Timed, Width};
use crate::time::Ns;

/// Version register: an integrated APIC (14h), six LVT entries, EOI broadcasts can be suppressed.
const VERSION: u32 = 1 << 24 | (Lvt::COUNT as u32 - 1) << 16 | 0x14;
/// IA32_APIC_BASE: this is the bootstrap processor.
const BASE_BOOTSTRAP: u64 = 1 << 8;
/// IA32_APIC_BASE: x2APIC mode.
const BASE_X2APIC: u64 = 1 << 10;
/// IA32_APIC_BASE: globally enabled.
const BASE_ENABLED: u64 = 1 << 11;

impl LocalApic {
    /// RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    pub fn msr_read(&mut self, now: Ns, index: u32) -> Result<u64, MsrFault> {
        self.advance(now);
        match index {
            MSR_APIC_BASE => Ok(self.apic_base()),
            MSR_TSC_DEADLINE => Ok(self.timer.tsc_deadline()),
            MSR_X2APIC_FIRST..=MSR_X2APIC_LAST if self.mode == Mode::X2apic => {
                let register = Register::decode(index - MSR_X2APIC_FIRST)
                    .filter(|register| register.x2apic_readable())
                    .ok_or(MsrFault)?;
                Ok(match register {
                    Register::IcrLow => self.icr,
                    other => self.read(now, other).into(),
                })
            }
            _ => Err(MsrFault),
        }
    }

    /// WRMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    pub fn msr_write(&mut self, now: Ns, index: u32, value: u64) -> Result<(), MsrFault> {
        self.advance(now);
        match index {
            MSR_APIC_BASE => self.set_apic_base(value),
            MSR_TSC_DEADLINE => {
                self.timer.set_tsc_deadline(value);
                self.advance(now); // a deadline in the past is reached
                Ok(())
            }
            MSR_X2APIC_FIRST..=MSR_X2APIC_LAST if self.mode == Mode::X2apic => {
                let (register, writable) = Register::decode(index - MSR_X2APIC_FIRST)
                    .and_then(|register| Some((register, register.x2apic_writable()?)))
                    .ok_or(MsrFault)?;
                if value & !writable != 0 {
                    return Err(MsrFault);
                }
                match register {
                    Register::IcrLow => {
                        self.icr = value & (0xffff_ffff_0000_0000 | u64::from(ICR_WRITABLE));
                        self.send(self.icr);
                    }
                    Register::SelfIpi => self.send(0x4_0000 | value),
                    other => self.write(now, other, value as u32),
                }
                Ok(())
            }
            _ => Err(MsrFault),
        }
    }

    fn apic_base(&self) -> u64 {
        let mode = match self.mode {
            Mode::Disabled => 0,
            Mode::Xapic => BASE_ENABLED,
            Mode::X2apic => BASE_ENABLED | BASE_X2APIC,
        };
        self.base | mode | if self.bootstrap { BASE_BOOTSTRAP } else { 0 }
    }

    /// The legal changes of mode are those of SDM section 11.12.5; the others fault. Switching off loses all state
    /// but the task priority, which is the CPU's CR8.
    fn set_apic_base(&mut self, value: u64) -> Result<(), MsrFault> {
        let address = (1u64 << self.phys_bits) - super::PAGE_BYTES;
        if value & !(address | BASE_ENABLED | BASE_X2APIC | BASE_BOOTSTRAP) != 0 {
            return Err(MsrFault);
        }
        let mode = match (value & BASE_ENABLED != 0, value & BASE_X2APIC != 0) {
            (false, false) => Mode::Disabled,
            (true, false) => Mode::Xapic,
            (true, true) => Mode::X2apic,
            (false, true) => return Err(MsrFault),
        };
        match (self.mode, mode) {
            (Mode::X2apic, Mode::Xapic) | (Mode::Disabled, Mode::X2apic) => return Err(MsrFault),
            (_, Mode::Disabled) => {
                self.mode = Mode::Disabled;
                self.reset_registers();
            }
            // The high half of the ICR is no part of a 64-bit one (SDM section 11.12.5.1).
            (Mode::Xapic, Mode::X2apic) => self.icr &= 0xffff_ffff,
            _ => {}
        }
        self.mode = mode;
        self.base = value & address;
        self.bootstrap = value & BASE_BOOTSTRAP != 0;
        Ok(())
    }

    fn read(&self, now: Ns, register: Register) -> u32 {
        let x2apic = self.mode == Mode::X2apic;
        match register {
            Register::Id if x2apic => Self::ID.into(),
            Register::Id => u32::from(self.id) << 24,
            Register::Version => VERSION,
            Register::Tpr => self.tpr.into(),
            Register::Apr => self.apr().into(),
            Register::Ppr => self.ppr().into(),
            Register::Ldr if x2apic => Self::x2apic_ldr(),
            Register::Ldr => u32::from(self.ldr) << 24,
            Register::Dfr => u32::from(self.dfr) << 28 | 0x0fff_ffff,
            Register::Svr => self.svr,
            Register::Isr(index) => self.isr.register(index),
            Register::Tmr(index) => self.tmr.register(index),
            Register::Irr(index) => self.irr.register(index),
            Register::Esr => self.esr,
            Register::IcrLow => self.icr as u32,
            Register::IcrHigh => (self.icr >> 32) as u32,
            Register::Lvt(entry) => self.lvt(entry),
            Register::InitialCount => self.timer.initial(),
            Register::CurrentCount => self.timer.current(now),
            Register::Divide => self.timer.divide(),
            Register::Eoi | Register::Rrd | Register::SelfIpi => 0,
        }
    }

    /// Writes what can be written; bits and registers that cannot stay as they are.
    fn write(&mut self, now: Ns, register: Register, value: u32) {
        match register {
            Register::Id => self.id = (value >> 24) as u8,
            Register::Tpr => self.tpr = value as u8,
            Register::Eoi => self.end_of_interrupt(),
            Register::Ldr => self.ldr = (value >> 24) as u8,
            Register::Dfr => self.dfr = (value >> 28) as u8,
            Register::Svr => self.set_svr(value),
            Register::Esr => {
                self.esr = std::mem::take(&mut self.errors);
                self.error_signalled = false;
            }
            Register::IcrLow => {
                self.icr = self.icr & 0xffff_ffff_0000_0000 | u64::from(value & ICR_WRITABLE);
                self.send(self.icr);
            }
            Register::IcrHigh => self.icr = self.icr & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32,
            Register::Lvt(entry) => self.set_lvt(entry, value),
            Register::InitialCount => self.timer.set_initial(now, value),
            Register::Divide => self.timer.set_divide(now, value & DIVIDE_WRITABLE),
            Register::Version
            | Register::Apr
            | Register::Ppr
            | Register::Rrd
            | Register::Isr(_)
            | Register::Tmr(_)
            | Register::Irr(_)
            | Register::CurrentCount
            | Register::SelfIpi => {}
        }
    }

    /// Switching off by software masks the whole LVT, and it stays masked until switched on (SDM section
    /// 11.4.7.2).
    fn set_svr(&mut self, value: u32) {
        self.svr = value & SVR_WRITABLE;
        if self.svr & SVR_ENABLED == 0 {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    fn set_lvt(&mut self, entry: Lvt, value: u32) {
        let kept = self.lvt(entry) & LVT_REMOTE_IRR;
        let forced = if self.svr & SVR_ENABLED == 0 {
            LVT_MASKED
        } else {
            0
        };
        let mut value = value & entry.writable() | forced;
        if value & super::LVT_LEVEL != 0 {
            value |= kept;
        }
        self.lvt[entry as usize] = value;
        match entry {
            Lvt::Timer => self.timer.set_mode(super::timer::Mode::of_lvt(value)),
            Lvt::Lint0 => self.sample_lint0(),
            _ => {}
        }
    }

    /// The register an access to the page hits; `None` if the page is not there or the access straddles
    /// registers. An address where no register is, is an error of the APIC itself, not of the bus.
    fn at(&mut self, offset: u64, width: Width) -> Option<Option<Register>> {
        if self.mode != Mode::Xapic
            || offset >= super::PAGE_BYTES
            || offset % 16 + u64::from(width.bytes()) > 4
        {
            return None;
        }
        let register = Register::decode((offset >> 4) as u32).filter(|register| register.in_xapic());
        if register.is_none() {
            self.error(ApicError::IllegalRegister);
        }
        Some(register)
    }
}

impl Mmio for LocalApic {
    fn mmio_read(&mut self, now: Ns, offset: u64, width: Width) -> Access<u64> {
        self.advance(now);
        let Some(register) = self.at(offset, width) else {
            return Access::Bad;
        };
        let value = register.map_or(0, |register| self.read(now, register));
        Access::Done(u64::from(value) >> (8 * (offset % 4)) & width.ones())
    }

    fn mmio_write(&mut self, now: Ns, offset: u64, width: Width, value: u64) -> Access {
        self.advance(now);
        if width != Width::Dword {
            return Access::Bad;
        }
        let Some(register) = self.at(offset, width) else {
            return Access::Bad;
        };
        if let Some(register) = register {
            self.write(now, register, value as u32);
        }
        Access::Done(())
    }
}

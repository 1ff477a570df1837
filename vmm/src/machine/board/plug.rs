//! The devices behind PCI: put into their slots when the board is made, and followed where the guest moves their windows.

use super::{Board, BoardError, Part, slots};
use crate::bus::Splitting;
use crate::dev::chipset::pci::config::{Pin, Space, Window};
use crate::dev::chipset::pci::{Moved, chipset, intx};
use crate::dev::ide::{Drive, Ide};
use crate::dev::lance::Lance;
use crate::mem::GuestMemory;
use shared::spec::MAX_DISKS;
use std::sync::Arc;

impl Board {
    /// The IDE controller, if there is a disk: the second function of the ISA bridge's chip, as in the PIIX3.
    pub(super) fn plug_disks(&mut self, memory: &Arc<GuestMemory>) -> Result<(), BoardError> {
        if self.spec.disks.is_empty() {
            return Ok(());
        }
        let mut drives = [const { None }; MAX_DISKS];
        for ((n, disk), drive) in (0u8..).zip(&self.spec.disks).zip(&mut drives) {
            *drive = Some(Drive {
                sectors: disk.sectors,
                read_only: disk.read_only,
                serial: disk.serial.clone(),
                channel: self.crossing.channel(self.spec.disk_channel(n))?,
            });
        }
        let [primary, secondary] = Ide::GSIS;
        let irqs = [self.line(primary)?, self.line(secondary)?];
        let config = Ide::config_space()
            .preset(slots::BAR4, &slots::IDE_BUS_MASTER.to_le_bytes())
            .enabled();
        self.pci.plug(chipset::IDE, config)?;
        self.ide = Some(Ide::new(drives, irqs, Arc::clone(memory)));
        for ports in Ide::PORTS {
            self.claim_ports(&ports, Splitting::Native, Part::Ide)?;
        }
        Ok(())
    }

    /// The network cards, one slot each.
    pub(super) fn plug_cards(&mut self, memory: &Arc<GuestMemory>) -> Result<(), BoardError> {
        for (n, card) in (0u8..).zip(self.spec.nets.clone()) {
            let devfn = slots::lance(n);
            let irq = self.line(intx::gsi(devfn.device(), Pin::A))?;
            let config = Lance::config_space()
                .preset(slots::BAR0, &slots::lance_ports(n).to_le_bytes())
                .preset(slots::BAR1, &slots::lance_memory(n).to_le_bytes())
                .enabled();
            self.pci.plug(devfn, config)?;
            let channel = self.crossing.channel(self.spec.net_channel(n))?;
            self.lances
                .push(Lance::new(card.mac, irq, Arc::clone(memory), channel));
        }
        Ok(())
    }

    /// The windows of PCI functions are where their base address registers say, if those are enabled.
    pub(super) fn follow_pci(&mut self) {
        for Moved { devfn, decode } in self.pci.take_moved() {
            let part = if devfn == chipset::IDE {
                if let Some(ide) = &mut self.ide {
                    ide.set_bus_master(decode.bus_master);
                }
                Part::IdeBusMaster
            } else if let Some(n) = slots::lance_of(devfn).map(usize::from)
                && let Some(lance) = self.lances.get_mut(n)
            {
                lance.set_bus_master(decode.bus_master);
                Part::Lance(n)
            } else {
                continue;
            };
            self.ports.drop_claims(|&claimed| claimed == part);
            self.mmio.drop_claims(|&claimed| claimed == part);
            for window in decode.windows.into_iter().flatten() {
                self.claim_window(window, part);
            }
        }
    }

    /// A window a guest lays over another device's is answered by that one alone: the claim is lost until it moves.
    fn claim_window(&mut self, window: Window, part: Part) {
        match window.space {
            Space::Io => {
                let (Ok(first), Ok(last)) = (
                    u16::try_from(window.base),
                    u16::try_from(window.base + (window.len - 1)),
                ) else {
                    return;
                };
                self.claim_ports(&(first..=last), Splitting::Native, part).ok();
            }
            Space::Memory => {
                self.mmio.claim(window.base.into(), window.len.into(), part).ok();
            }
        }
    }
}

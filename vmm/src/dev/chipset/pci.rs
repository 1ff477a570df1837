use crate::bus::*;
use crate::time::Ns;
pub struct Pci;
impl Pci {
    pub fn new(_: Signals) -> Self {
        Pci
    }
}
impl PortIo for Pci {
    fn port_read(&mut self, _: Ns, _: u16, _: Width) -> Access<u32> {
        Access::Bad
    }
    fn port_write(&mut self, _: Ns, _: u16, _: Width, _: u32) -> Access {
        Access::Bad
    }
}

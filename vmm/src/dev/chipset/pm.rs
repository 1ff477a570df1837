use crate::bus::*;
use crate::time::Ns;
pub struct Pm;
impl Pm {
    pub fn new(_: Line, _: Signals) -> Self {
        Pm
    }
    pub fn press_power_button(&mut self, _: Ns) {}
}
impl PortIo for Pm {
    fn port_read(&mut self, _: Ns, _: u16, _: Width) -> Access<u32> {
        Access::Bad
    }
    fn port_write(&mut self, _: Ns, _: u16, _: Width, _: u32) -> Access {
        Access::Bad
    }
}
impl Timed for Pm {
    fn deadline(&self) -> Option<Ns> {
        None
    }
    fn advance(&mut self, _: Ns) {}
}

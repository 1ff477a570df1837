//! The register core against the data sheet and a driver's probes; the front end against a console at the other end of
//! a real channel.

mod front;
mod registers;

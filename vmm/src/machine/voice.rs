//! The voice: what the vmm warns of, told to the supervisor, who knows how the user wants to read it.
//!
//! The vmm's own standard error is for what nobody planned, and is quoted line by line without a level. So every
//! [`tracing`] event of level warning or error becomes a [`FromVmm::Warning`]; the supervisor bounds their number. Must
//! never block, and never log: a supervisor that does not listen loses the line.

use shared::msg::handover::FromVmm;
use std::fmt::{Debug, Write};
use std::sync::Arc;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, SubscriberExt};
use vmdriver_shim::handover::Socket;

/// Longest warning, in bytes; a record of the socket holds far more.
const LONGEST: usize = 1024;

/// Turns warnings into records on the supervisor's socket.
struct Voice {
    socket: Arc<Socket>,
}

/// Lets this process be heard from now on.
pub fn speak_through(socket: &Arc<Socket>) {
    // A second voice would say the same to the same: the first stays.
    tracing::subscriber::set_global_default(subscriber(Arc::clone(socket))).ok();
}

fn subscriber(socket: Arc<Socket>) -> impl Subscriber + Send + Sync {
    tracing_subscriber::registry().with(Voice { socket }.with_filter(LevelFilter::WARN))
}

impl<S: Subscriber> Layer<S> for Voice {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        let mut text = line.0;
        text.truncate(text.floor_char_boundary(LONGEST));
        self.socket.send(&FromVmm::Warning(text), &[]).ok();
    }
}

/// The message, and after it the other fields by name.
#[derive(Default)]
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let written = match field.name() {
            "message" => write!(self.0, "{value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        // Writing to a string does not fail; a broken Debug would only cut its own text.
        written.ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmdriver_shim::handover::Received;

    #[test]
    fn warnings_and_errors_reach_the_supervisor_and_nothing_else_does() {
        let (supervisor, vmm) = Socket::pair().unwrap();
        tracing::subscriber::with_default(subscriber(Arc::new(vmm)), || {
            tracing::info!("not this");
            tracing::warn!("KVM refuses register {}", "XSS");
            tracing::error!(port = 3, "gone");
            tracing::warn!("{}", "ä".repeat(LONGEST));
        });
        let mut heard = Vec::new();
        while let Ok(Received::Message(FromVmm::Warning(text), _)) = supervisor.recv() {
            heard.push(text);
        }
        assert_eq!(heard[..2], ["KVM refuses register XSS", "gone port=3"]);
        assert_eq!(heard[2], "ä".repeat(LONGEST / 2));
        assert_eq!(heard.len(), 3);
    }
}

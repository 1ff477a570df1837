//! The board and the run loop.

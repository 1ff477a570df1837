//! `vmapp disk`: what may be typed. What is done is [`command`]'s.

use super::{FAILED, WRONG, complain, print};
use crate::back::disk::command::{self, CommandError};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// The commands.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Makes an empty raw image, which takes room on the host as the guest writes
    Create {
        /// The image
        path: PathBuf,
        /// Size: bytes, or a number with K, M, G or T
        size: String,
    },
    /// Shows what an image and its overlay hold
    Info(Image),
    /// Writes the overlay's changes into the image; given again if it was interrupted
    Commit(Image),
    /// Gives the overlay's changes up
    Discard(Image),
}

/// An image and its overlay.
#[derive(Debug, Args)]
pub struct Image {
    /// The image, as `path` of [[disk]] names it
    path: PathBuf,
    /// The overlay, if it is not the image's name with .overlay behind it
    #[arg(long, value_name = "FILE")]
    overlay: Option<PathBuf>,
}

/// Does a command; the exit status.
pub fn run(command: &DiskCommand) -> u8 {
    let done = match command {
        DiskCommand::Create { path, size } => command::create(path, size),
        DiskCommand::Info(image) => command::info(&image.path, image.overlay.as_deref()),
        DiskCommand::Commit(image) => command::commit(&image.path, image.overlay.as_deref()),
        DiskCommand::Discard(image) => command::discard(&image.path, image.overlay.as_deref()),
    };
    match done {
        Ok(text) => print(&text),
        Err(error) => {
            complain(&format!("error: {error}\n"));
            match error {
                CommandError::Failed { .. } => FAILED,
                _ => WRONG,
            }
        }
    }
}

//! Consoles: stdio, pty, socket, file.

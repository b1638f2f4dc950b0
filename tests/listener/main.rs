//! The listener over real sockets: protocols, limits, and the orderly end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where an expectation fails")]

mod clients;
mod deadline;
mod drain;
mod protocols;
mod recall;
mod refused;
mod reload;
mod room;
mod setup;
mod slow_reader;
mod unix;
mod unread;

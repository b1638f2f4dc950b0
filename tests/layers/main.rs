//! The layout of the code: which module and package may use which, no circle of files, no file
//! that is too long, no word that the field does not use. The tests read the sources as text,
//! without comments, strings and code for tests.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

mod circles;
mod fault_table;
mod lengths;
mod modules;
mod owner_table;
mod reading;
mod rooms;
mod tables;
mod text;
mod words;
mod workspace;

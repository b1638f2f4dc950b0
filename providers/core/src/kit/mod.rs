//! What adapters of network key services have in common, so that a new one is its calls and its
//! tables: the life of a session, errors and code tables, checks, secret files, lengths, settings.
//!
//! An adapter's files, and what each takes from here:
//!
//! | file | content | of the kit |
//! |---|---|---|
//! | `settings`, `auth` | parse `settings` and its member `auth` | [`settings`], [`network`] |
//! | `session` | where credentials come from | [`session`], [`secrets`] |
//! | `client` | the one place that sends a call | [`session::Session::call`], [`crate::CallSink`], [`http`] |
//! | `codes`, `errors` | what the service's codes mean; from a response to an error | [`meaning`], [`call_error`] |
//! | `provider`, `lifecycle` | the operations | [`lengths`], [`appearance`], [`pauses`] |
//! | `probe`, `policy` | the check of a connection | [`probe`] |

pub mod appearance;
pub mod budget;
pub mod call_error;
pub mod health_monitor;
pub mod http;
pub mod lengths;
pub mod meaning;
pub mod network;
pub mod passed_canaries;
pub mod pauses;
pub mod probe;
pub mod scrub;
pub mod secret_file;
pub mod secrets;
pub mod session;
pub mod settings;

//! When a record is synced.

use super::string_enum::string_enum;

string_enum! {
    /// What a record survives from its response on.
    Durability {
        /// A loss of power: it is synced to the disk before the response.
        PowerLoss = "power-loss",
        /// The end of the process: it is written to the kernel before the response, and synced
        /// every [`super::Options::sync_every`]. Changes of state and revocations are synced before their response.
        ProcessCrash = "process-crash",
    }
}

//! The command `providers`: shows the capabilities of this build's providers. Works offline.

use serde_json::{Value, json};

use super::print::Column;
use super::terminal::Terminal;
use crate::boot::capabilities;
use crate::client::Failure;
use crate::protocols::rest::capability_rows;

const COLUMNS: [Column; 8] = [
    ("PROVIDER", "/provider"),
    ("SPEC", "/spec"),
    ("WRAP", "/wrap"),
    ("DATA KEYS", "/generate_data_key"),
    ("REWRAP", "/rewrap"),
    ("CONTEXT", "/context"),
    ("ROTATION", "/rotation"),
    ("SET STATE", "/set_state"),
];

/// Prints one row for each provider and key spec.
pub(super) fn run(terminal: &mut Terminal<'_>) -> Result<(), Failure> {
    let rows: Vec<Value> = capabilities()
        .into_iter()
        .flat_map(|(kind, can)| capability_rows(kind, can))
        .collect();
    terminal.list(&json!({"items": rows}), &COLUMNS)
}

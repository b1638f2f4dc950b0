//! The metrics of connections' circuits, rendered when they are read.

use std::fmt::Write as _;

const CONNECTIONS: &str = "claviger_connections_in_memory";
const OPEN: &str = "claviger_open_circuits";

/// Connections in memory, by the state of their circuits.
#[derive(Debug, Clone, Copy)]
pub struct Circuits {
    /// All connections in memory.
    pub in_use: u64,
    /// Those with an open circuit.
    pub open: u64,
    /// Those with an open circuit of single keys, and none of their own.
    pub open_for_keys: u64,
}

impl Circuits {
    /// Renders the metrics in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let _ = write!(
            text,
            "# HELP {CONNECTIONS} Connections in memory\n# TYPE {CONNECTIONS} gauge\n{CONNECTIONS} {}\n\
             # HELP {OPEN} Connections with an open circuit: of the connection, or of single keys\n# TYPE {OPEN} gauge\n\
             {OPEN}{{of=\"connection\"}} {}\n{OPEN}{{of=\"key\"}} {}\n",
            self.in_use, self.open, self.open_for_keys
        );
        text
    }
}

//! What no real gateway can show: times and outcomes by a script.

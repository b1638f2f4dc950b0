//! What several tests expect.

use claviger_client::{Error, ErrorKind};

/// A token of the right form that no gateway issued.
pub const TOKEN: &str = "clv_aaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
pub const OTHER_TOKEN: &str = "clv_cccccccccccc_ddddddddddddddddddddddddddddddddddddddddddddddddd";
pub const TABLE: [(&str, &str); 1] = [("table", "orders")];

#[track_caller]
pub fn failed<T>(result: Result<T, Error>, kind: ErrorKind) -> Error {
    match result {
        Ok(_) => panic!("it succeeded"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            error
        }
    }
}

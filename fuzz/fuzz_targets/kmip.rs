//! The reader of KMIP messages on any bytes: it never panics, and what it takes is written back byte for byte.
#![no_main]

use claviger_provider_kmip::reads_as_response;
use claviger_provider_kmip::ttlv::{encode, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(item) = parse(data) {
        assert_eq!(*encode(&item), data);
    }
    reads_as_response(data);
});

//! The decoder of wrapped keys on any bytes: it never panics, and what it takes it gives
//! back byte for byte, in both forms.
#![no_main]

use claviger::envelope::{Context, Envelope};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(envelope) = Envelope::parse(text)
    {
        assert_eq!(envelope.as_text(), text);
    }
    let Ok(envelope) = Envelope::parse_binary(data) else {
        return;
    };
    assert_eq!(envelope.as_binary(), data);
    let again = Envelope::parse(envelope.as_text());
    assert!(again.is_ok_and(|again| again.as_binary() == data));
    for recipient in envelope.recipients() {
        assert_eq!(recipient.is_usable(), recipient.wrapped().is_some());
    }
    let bound = Context::default().bind(envelope.header());
    assert!(bound.pairs().len() >= 3);
});

//! The record's bytes are canonical JSON (RFC 8785), whatever its content.

use std::net::IpAddr;

use claviger_provider::{ConnectionId, DekId, KeyId, PrincipalId, ProviderKind, TokenId};
use proptest::prelude::*;

use super::super::removed::Removed;
use super::super::stamp::Stamped;
use super::*;

/// A record that has every member, whatever its kind allows.
fn full(text: &str, shown: Vec<(String, String)>) -> Record {
    let bench = Bench::new();
    let end = |version: u32| RewrapEnd {
        dek_id: DekId::from_bytes([3; 16]),
        key: KeyId::from_bytes([4; 16]),
        key_version: version.into(),
        wrapped_sha256: Digest([5; 32]),
    };
    let text = |prefix: &str| Some(Text::new(format!("{prefix}{text}")));
    let window = Window {
        from: Timestamp::from_micros(0),
        to: Timestamp::from_micros(1_767_323_045_000_006),
    };
    let mut record =
        Record::restarted(&bench.origin, Durability::ProcessCrash, Cause::DiskFull, window).with_outcome(Outcome::Failed("internal"));
    record.tenant = tenant(9);
    record.approval = text("a");
    record.authn = Some(Authn::ApiToken);
    record.cached = Some(false);
    record.change = Some(StateChange::from(EmergencyRevocation::Disable(KeyId::from_bytes([4; 16])).at_lifts(7)).at_provider());
    record.client_request_id = text("");
    record.coalesced_with = text("c");
    record.connection = Some(ConnectionId::from_bytes([6; 16]));
    record.context_hash = Some(ContextHash {
        hash: Digest([7; 32]),
        key_id: Text::new("k"),
    });
    record.context_shown = Some(shown.into_iter().collect());
    record.counts = Some(
        [("b", 2), ("a_b", 3), ("a", 1)]
            .map(|(code, n)| (Text::new(code), Number::saturating(n)))
            .into(),
    );
    record.decision = Some(Decision::Allow);
    record.dek_id = Some(DekId::from_bytes([8; 16]));
    record.inside_provider = Some(true);
    record.intent = Some(7.into());
    record.item = Some(0.into());
    record.justification = text("j");
    record.key = Some(KeyId::from_bytes([4; 16]));
    record.key_version = Some(3.into());
    record.latency_us = Some(Number::MAX);
    record.network = Some(Box::new(NetworkChange {
        after: Digest([11; 32]),
        before: Digest([12; 32]),
    }));
    record.policy = Some(Policy {
        id: Text::new("p"),
        version: 2.into(),
    });
    record.principal = Some(PrincipalId::from_bytes([10; 16]));
    record.provider = Some(ProviderKind::Pkcs11);
    let call = claviger_provider::ProviderCall::new("Decrypt", Some("id-1"), claviger_provider::CallResult::Ok);
    record.set_provider_calls(vec![call; 9], 1);
    record.provider_key_material = text("m");
    record.provider_request_id = text("r");
    record.removed = Some(Box::new(Removed {
        archived: true,
        changed: Some(3.into()),
        first: 6.into(),
        from: 0.into(),
        more: true,
        next: [(tenant(1), 4.into()), (tenant(2), 5.into())].into(),
        sha256: Digest([14; 32]),
        to: 9.into(),
    }));
    record.request_id = text("q");
    record.rewrap = Some(Rewrap {
        source: end(1),
        target: Some(end(2)),
    });
    record.source = Some(Source::address("::ffff:192.0.2.1".parse::<IpAddr>().unwrap()));
    record.token_id = Some(TokenId::from_bytes([12; 16]));
    record.truncated_bytes = Some(1.into());
    record.unrecorded = Some(1.into());
    record.withholds = Some(1.into());
    record.wrapped_sha256 = Some(Digest([13; 32]));
    record
}

/// The JSON as the group commit writes it with that number.
fn written(record: Record, number: u64) -> Vec<u8> {
    let stamped: Stamped = record.stamp().unwrap();
    let mut frame = Vec::new();
    frame::put(&mut frame, stamped.unnumbered(), number);
    frame::mark(&mut frame);
    let (json, first) = frame::parse(&frame).unwrap();
    assert!(first && json.len() <= stamped.len());
    json.to_vec()
}

fn assert_canonical(json: &[u8], number: u64) {
    let value: serde_json::Value = serde_json::from_slice(json).unwrap();
    assert_eq!(value["sequence"], number);
    let canonical = serde_json_canonicalizer::to_vec(&value).unwrap();
    assert_eq!(String::from_utf8_lossy(json), String::from_utf8_lossy(&canonical));
    let read: Record = serde_json::from_slice(json).unwrap();
    assert_eq!(read.sequence(), number);
    assert_eq!(
        serde_json::to_vec(&read).unwrap(),
        json,
        "reading and writing again gives the same bytes"
    );
}

#[test]
fn every_member_is_in_canonical_order() {
    let record = full("plain", vec![]);
    let json = written(record, 12_345);
    assert_canonical(&json, 12_345);
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(value.as_object().unwrap().len(), 49, "`full` sets every member there is");
}

#[test]
fn provider_calls_are_written_in_canonical_order_and_counted_beyond_eight() {
    let json = written(full("plain", vec![]), 0);
    let record: Record = serde_json::from_slice(&json).unwrap();
    assert_eq!((record.provider_calls().len(), record.provider_calls_omitted()), (8, 2));
    let text = String::from_utf8(json).unwrap();
    let first = r#""provider":"pkcs11","provider_calls":[{"operation":"Decrypt","request_id":"id-1","result":"ok"},"#;
    assert!(text.contains(first), "{text}");
    assert!(
        text.contains(r#"],"provider_calls_omitted":2,"provider_key_material":"mplain""#),
        "{text}"
    );

    let mut record = full("plain", vec![]);
    record.set_provider_calls(Vec::new(), 0);
    let text = String::from_utf8(written(record, 0)).unwrap();
    assert!(!text.contains("provider_calls"), "{text}");
}

#[test]
fn eight_calls_with_the_longest_ids_fit_into_a_record() {
    // Each quotation mark is escaped, so the JSON is twice as long.
    let id = "\"".repeat(claviger_provider::MAX_REQUEST_ID);
    let call = claviger_provider::ProviderCall::new("Decrypt", Some(&id), claviger_provider::CallResult::Abandoned);
    let mut record = full(&"\"".repeat(Text::MAX), vec![]);
    record.set_provider_calls(vec![call; 8], 0);
    let json = written(record, Number::MAX.get());
    assert_canonical(&json, Number::MAX.get());
    assert!(json.len() < MAX_JSON / 3, "{} bytes", json.len());
}

#[test]
fn hostile_texts_change_neither_the_form_nor_the_number() {
    let hostile = [
        "\",\"sequence\":0,\"",
        ",\"sequence\":0",
        "\\",
        "\\\",\"sequence\":0",
        "\u{0}\u{1f}\u{7f}\u{80}\u{2028}\u{2029}\u{feff}\u{fffd}\r\n\t\u{8}\u{c}",
        "\u{10ffff}\u{e000}\u{1f600}é e\u{301}",
        "</script>&amp;'",
    ];
    for text in hostile {
        // Names whose order by UTF-16 differs from that by UTF-8, and the record's own names.
        let shown = ["sequence", "tenant", "\u{e000}", "\u{1f600}", "", text].map(|name| (name.to_owned(), text.to_owned()));
        for number in [0, 9, 10, Number::MAX.get()] {
            assert_canonical(&written(full(text, shown.to_vec()), number), number);
        }
    }
}

#[test]
fn long_texts_are_truncated_and_large_records_refused() {
    let long = "é".repeat(200_000);
    let json = written(full(&long, vec![]), 1);
    assert_canonical(&json, 1);
    assert!(json.len() < 9_000);
    let shown = vec![("n".to_owned(), "v".repeat(MAX_JSON))];
    assert!(full("", shown).stamp().is_err());
}

#[test]
fn an_absent_member_is_left_out() {
    let bench = Bench::new();
    let json = written(
        Record::new(&bench.origin, tenant(1), Action::Wrap.into()).with_outcome(Outcome::Success),
        0,
    );
    let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
    let expected = [
        "installation",
        "kind",
        "node",
        "operation",
        "result",
        "sequence",
        "tenant",
        "time",
        "v",
    ];
    assert_eq!(names, expected);
    assert!(!json.windows(4).any(|part| part == b"null"));
}

#[test]
fn times_have_one_form() {
    for (micros, text) in [
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_767_323_045_000_006, "2026-01-02T03:04:05.000006Z"),
        (1_767_323_045_120_000, "2026-01-02T03:04:05.120000Z"),
    ] {
        let time = Timestamp::from_micros(micros);
        assert_eq!(time.to_string(), text);
        assert_eq!(serde_json::from_str::<Timestamp>(&format!("\"{text}\"")).unwrap(), time);
    }
}

#[test]
fn numbers_stay_below_two_to_the_53() {
    assert_eq!(Number::saturating(u64::MAX).get(), 9_007_199_254_740_991);
    assert!(serde_json::from_str::<Number>("9007199254740992").is_err());
    assert_eq!(Number::from(Duration::from_millis(3)).get(), 3_000);
}

#[test]
fn sources_are_summed_by_network() {
    for (address, network) in [
        ("192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
    ] {
        let source = Source::network_of(address.parse().unwrap());
        let json = serde_json::to_string(&source).unwrap();
        assert_eq!(json, format!("\"{network}\""));
        assert_eq!(serde_json::from_str::<Source>(&json).unwrap(), source);
    }
    assert_eq!(serde_json::to_string(&Source::address("::1".parse().unwrap())).unwrap(), "\"::1\"");
}

/// Removes the members whose bit is not set, of those that may be absent.
fn thin(record: &mut Record, present: u64) {
    let mut bit = 0;
    macro_rules! keep {
        ($($member:ident),+) => {$(
            if present >> bit & 1 == 0 {
                record.$member = None;
            }
            bit += 1;
        )+};
    }
    keep!(
        approval,
        authn,
        cached,
        cause,
        change,
        client_request_id,
        coalesced_with,
        code,
        connection,
        context_hash
    );
    keep!(
        context_shown,
        counts,
        decision,
        dek_id,
        durability,
        inside_provider,
        intent,
        item,
        justification,
        key
    );
    keep!(
        key_version,
        latency_us,
        lost,
        network,
        policy,
        principal,
        provider,
        provider_calls,
        provider_calls_omitted
    );
    keep!(
        provider_key_material,
        provider_request_id,
        removed,
        request_id,
        result,
        rewrap,
        source,
        token_id,
        truncated_bytes
    );
    keep!(unrecorded, window, withholds, wrapped_sha256);
    assert_eq!(bit, 42, "a member is neither always present nor here");
}

proptest! {
    #[test]
    fn any_members_are_written_as_serde_and_the_canonicalizer_write_them(
        present: u64, text in ".{0,40}", micros in 0..253_402_300_800_000_000_i64, bytes: [u8; 16], address: u128, number in 0..=Number::MAX.get(),
    ) {
        let mut record = full(&text, vec![(text.clone(), text.clone())]);
        record.lost = Some(Lost::new(number / 2, number));
        record.window = Some(Window { from: Timestamp::from_micros(0), to: Timestamp::from_micros(micros) });
        record.network = Some(Box::new(NetworkChange { after: Digest([bytes[0]; 32]), before: Digest([bytes[1]; 32]) }));
        record.key = Some(KeyId::from_bytes(bytes));
        record.latency_us = Some(Number::saturating(number));
        let address = if present >> 63 == 0 { IpAddr::from(address.to_be_bytes()) } else { IpAddr::from((address as u32).to_be_bytes()) };
        record.source = Some(if present >> 62 & 1 == 0 { Source::address(address) } else { Source::network_of(address) });
        if present >> 61 & 1 == 0 {
            record.change = Some(StateChange::new(Verb::Rotate, Object::Key, &KeyId::from_bytes(bytes)).making(&KeyId::from_bytes([1; 16])));
            record.rewrap.as_mut().unwrap().target = None;
        }
        thin(&mut record, present);
        assert_canonical(&written(record, number), number);
    }

    #[test]
    fn any_text_is_canonical(text in ".{0,300}", pairs in prop::collection::vec((".{0,20}", ".{0,20}"), 0..6), number in 0..=Number::MAX.get()) {
        assert_canonical(&written(full(&text, pairs), number), number);
    }
}

//! A record as canonical JSON (RFC 8785), written member by member into the buffer.
//!
//! serde's derived code writes the same bytes at several times the cost, and every request has a
//! record. A test compares the two, and a canonicalizer, over random records.

use std::io::Write;

use claviger_provider::{ConnectionId, DekId, Id, InstallationId, KeyId, PrincipalId, ProviderKind, TenantId, TokenId};

use super::action::Operation;
use super::durability::Durability;
use super::fields::{
    Authn, Cause, ContextHash, Decision, Ending, Kind, Lost, NetworkChange, Policy, ProviderCall, Rewrap, RewrapEnd, Source,
    VisibleContext, Window,
};
use super::record::Record;
use super::removed::Removed;
use super::scalar::{Digest, Number, Text, Timestamp};
use super::state_change::{Object, ObjectId, StateChange, Verb};

/// A value with one written form in canonical JSON.
pub(super) trait Json {
    /// Appends the value.
    fn put(&self, out: &mut Vec<u8>);
}

/// Appends the members that are present, each with a comma before it. Their names are those of
/// the variables, and must be in the order of RFC 8785.
macro_rules! put_present {
    ($out:ident: $($member:ident),+) => {$(
        if let Some(value) = $member {
            put_member!($out: $member = value);
        }
    )+};
}

/// Appends members that are always present.
macro_rules! put_member {
    ($out:ident: $($member:ident = $value:expr),+) => {$(
        $out.extend_from_slice(concat!(",\"", stringify!($member), "\":").as_bytes());
        $value.put($out);
    )+};
}

/// Appends an object whose members `put` appends.
fn put_object(out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    put(out);
    match out.get_mut(start) {
        // The comma before the first member.
        Some(comma) => *comma = b'{',
        None => out.push(b'{'),
    }
    out.push(b'}');
}

impl Record {
    /// Appends the record without the digits of its `sequence`, which only the queue knows.
    /// Returns the offset in `out` at which they belong.
    pub(super) fn put_unnumbered(&self, out: &mut Vec<u8>) -> usize {
        // Complete, so that a new member cannot be forgotten here.
        let Self {
            approval,
            authn,
            cached,
            cause,
            change,
            client_request_id,
            coalesced_with,
            code,
            connection,
            context_hash,
            context_shown,
            counts,
            decision,
            dek_id,
            durability,
            inside_provider,
            installation,
            intent,
            item,
            justification,
            key,
            key_version,
            kind,
            latency_us,
            lost,
            network,
            node,
            operation,
            policy,
            principal,
            provider,
            provider_calls,
            provider_calls_omitted,
            provider_key_material,
            provider_request_id,
            removed,
            request_id,
            result,
            rewrap,
            sequence: _,
            source,
            tenant,
            time,
            token_id,
            truncated_bytes,
            unrecorded,
            v: _,
            window,
            withholds,
            wrapped_sha256,
        } = self;
        let mut number_at = 0;
        put_object(out, |out| {
            put_present!(out: approval, authn, cached, cause, change, client_request_id, coalesced_with, code, connection);
            put_present!(out: context_hash, context_shown, counts, decision, dek_id, durability, inside_provider);
            put_member!(out: installation = installation);
            put_present!(out: intent, item, justification, key, key_version);
            put_member!(out: kind = kind);
            put_present!(out: latency_us, lost, network);
            put_member!(out: node = node.as_str(), operation = operation);
            put_present!(out: policy, principal, provider, provider_calls, provider_calls_omitted, provider_key_material);
            put_present!(out: provider_request_id, removed, request_id, result, rewrap);
            out.extend_from_slice(b",\"sequence\":");
            number_at = out.len();
            put_present!(out: source);
            put_member!(out: tenant = tenant, time = time);
            put_present!(out: token_id, truncated_bytes, unrecorded);
            out.extend_from_slice(b",\"v\":1");
            put_present!(out: window, withholds, wrapped_sha256);
        });
        number_at
    }
}

/// Appends the digits of a number.
pub(super) fn put_digits(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder of 10 fits.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Appends the last `WIDTH` digits of a number.
fn put_padded<const WIDTH: usize>(out: &mut Vec<u8>, mut number: u32) {
    let mut digits = [0; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
    out.extend_from_slice(&digits);
}

const fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// Appends a string of bytes that are UTF-8.
fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    // Without an early end the compiler makes this a loop over whole vectors.
    if text.iter().fold(false, |found, byte| found | needs_escape(*byte)) {
        put_escaped(out, text);
    } else {
        out.extend_from_slice(text);
    }
    out.push(b'"');
}

#[cold]
fn put_escaped(out: &mut Vec<u8>, text: &[u8]) {
    for byte in text {
        match *byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            0x08 => out.extend_from_slice(b"\\b"),
            0x09 => out.extend_from_slice(b"\\t"),
            0x0a => out.extend_from_slice(b"\\n"),
            0x0c => out.extend_from_slice(b"\\f"),
            0x0d => out.extend_from_slice(b"\\r"),
            control @ 0..0x20 => {
                // Writing to a Vec cannot fail.
                let _ = write!(out, "\\u{control:04x}");
            }
            other => out.push(other),
        }
    }
}

/// Appends a string that has nothing to escape.
fn put_plain(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Appends a JSON array or object of these items.
fn put_list<T>(out: &mut Vec<u8>, [open, close]: [u8; 2], items: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    out.push(open);
    for (at, item) in items.enumerate() {
        if at > 0 {
            out.push(b',');
        }
        put(out, item);
    }
    out.push(close);
}

/// Appends an object whose names are data, in the order of `pairs`.
fn put_pairs<'p, N, V>(out: &mut Vec<u8>, pairs: impl Iterator<Item = (&'p N, &'p V)>)
where
    N: Json + ?Sized + 'p,
    V: Json + ?Sized + 'p,
{
    put_list(out, *b"{}", pairs, |out, (name, value)| {
        name.put(out);
        out.push(b':');
        value.put(out);
    });
}

impl Json for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

impl Json for Number {
    fn put(&self, out: &mut Vec<u8>) {
        put_digits(out, self.get());
    }
}

impl Json for str {
    fn put(&self, out: &mut Vec<u8>) {
        put_string(out, self.as_bytes());
    }
}

impl Json for Text {
    fn put(&self, out: &mut Vec<u8>) {
        put_string(out, self.as_bytes());
    }
}

impl Json for Digest {
    fn put(&self, out: &mut Vec<u8>) {
        let mut text = [0; 64];
        // 64 is exactly twice 32, so encoding cannot fail.
        let _ = hex::encode_to_slice(self.0, &mut text);
        out.push(b'"');
        out.extend_from_slice(&text);
        out.push(b'"');
    }
}

impl Json for Timestamp {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(b'"');
        match self.fields() {
            Some([year, month, day, hour, minute, second, micros]) => {
                put_padded::<4>(out, year);
                for (separator, field) in [(b'-', month), (b'-', day), (b'T', hour), (b':', minute), (b':', second)] {
                    out.push(separator);
                    put_padded::<2>(out, field);
                }
                out.push(b'.');
                put_padded::<6>(out, micros);
                out.push(b'Z');
            }
            // A year without four digits.
            None => {
                let _ = write!(out, "{self}");
            }
        }
        out.push(b'"');
    }
}

/// Ids are hex digits.
macro_rules! put_ids {
    ($($id:ty),+) => {$(
        impl Json for $id {
            fn put(&self, out: &mut Vec<u8>) {
                put_plain(out, &self.text());
            }
        }
    )+};
}

put_ids!(InstallationId, TenantId, PrincipalId, ConnectionId, KeyId, DekId, TokenId);

impl Json for ObjectId {
    fn put(&self, out: &mut Vec<u8>) {
        KeyId::from_bytes(self.0).put(out);
    }
}

/// The words of closed lists have nothing to escape.
macro_rules! put_words {
    ($($word:ty),+) => {$(
        impl Json for $word {
            fn put(&self, out: &mut Vec<u8>) {
                put_plain(out, self.as_str());
            }
        }
    )+};
}

put_words!(
    Authn,
    Cause,
    Decision,
    Durability,
    Ending,
    Kind,
    Object,
    Operation,
    ProviderKind,
    Verb
);

impl Json for Source {
    fn put(&self, out: &mut Vec<u8>) {
        // Writing to a Vec cannot fail.
        let _ = match self {
            Self::Address(address) => write!(out, "\"{address}\""),
            Self::Network(network) => write!(out, "\"{network}\""),
        };
    }
}

impl Json for StateChange {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            at_provider,
            id,
            lifts,
            made_as,
            object,
            verb,
        } = self;
        put_object(out, |out| {
            if *at_provider {
                put_member!(out: at_provider = at_provider);
            }
            put_member!(out: id = id);
            put_present!(out: lifts, made_as);
            put_member!(out: object = object, verb = verb);
        });
    }
}

impl Json for ContextHash {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { hash, key_id } = self;
        put_object(out, |out| {
            put_member!(out: hash = hash, key_id = key_id);
        });
    }
}

impl Json for VisibleContext {
    fn put(&self, out: &mut Vec<u8>) {
        put_pairs(out, self.pairs());
    }
}

impl Json for std::collections::BTreeMap<Text, Number> {
    fn put(&self, out: &mut Vec<u8>) {
        put_pairs(out, self.iter());
    }
}

impl Json for Lost {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { from, to } = self;
        put_object(out, |out| {
            put_member!(out: from = from, to = to);
        });
    }
}

impl Json for NetworkChange {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { after, before } = self;
        put_object(out, |out| {
            put_member!(out: after = after, before = before);
        });
    }
}

impl Json for Removed {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            archived,
            changed,
            first,
            from,
            more,
            next,
            sha256,
            to,
        } = self;
        put_object(out, |out| {
            if *archived {
                put_member!(out: archived = archived);
            }
            put_present!(out: changed);
            if first.get() > 0 {
                put_member!(out: first = first);
            }
            put_member!(out: from = from);
            if *more {
                put_member!(out: more = more);
            }
            out.extend_from_slice(b",\"next\":");
            put_pairs(out, next.iter());
            put_member!(out: sha256 = sha256, to = to);
        });
    }
}

impl Json for Policy {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { id, version } = self;
        put_object(out, |out| {
            put_member!(out: id = id, version = version);
        });
    }
}

impl Json for ProviderCall {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            operation,
            request_id,
            result,
        } = self;
        put_object(out, |out| {
            put_member!(out: operation = operation);
            put_present!(out: request_id);
            put_member!(out: result = result);
        });
    }
}

impl Json for Vec<ProviderCall> {
    fn put(&self, out: &mut Vec<u8>) {
        put_list(out, *b"[]", self.iter(), |out, call| call.put(out));
    }
}

impl Json for RewrapEnd {
    fn put(&self, out: &mut Vec<u8>) {
        let Self {
            dek_id,
            key,
            key_version,
            wrapped_sha256,
        } = self;
        put_object(out, |out| {
            put_member!(out: dek_id = dek_id, key = key, key_version = key_version, wrapped_sha256 = wrapped_sha256);
        });
    }
}

impl Json for Rewrap {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { source, target } = self;
        put_object(out, |out| {
            put_member!(out: source = source);
            put_present!(out: target);
        });
    }
}

impl Json for Window {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { from, to } = self;
        put_object(out, |out| {
            put_member!(out: from = from, to = to);
        });
    }
}

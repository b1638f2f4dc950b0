//! A provider's message about the form of a request, without what it repeats of it.

/// The shortest run of letters and digits that is taken for data. A data key has 22 or more in base64.
const DATA: usize = 16;

/// The message with `[...]` in the place of whatever may be data: a provider that rejects a value
/// often repeats it, and a wrap sends a data key and a caller's context.
///
/// Left out is what stands in quotes, except a field's name after `at`; the word after `value`, unless it
/// is one of a sentence; and outside of quotes runs of characters of base64, unless they are shorter than 16, have letters of one case alone, or begin with
/// `projects/`, as names of resources do.
pub fn scrubbed(message: &str) -> String {
    let mut kept = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(at) = opening_quote(rest) {
        let (before, quoted) = rest.split_at(at);
        kept.push_str(&without_data(before));
        let quote = &quoted[..1];
        // A value may have quotes in it: it ends with one that no letter follows. Without an end, the rest is
        // left out.
        let inside = &quoted[1..];
        let end = inside.match_indices(quote).map(|(at, _)| at);
        let end = end.into_iter().find(|at| !inside[at + 1..].starts_with(char::is_alphanumeric));
        let (value, behind) = end.map_or((inside, ""), |end| (&inside[..end], &inside[end + 1..]));
        let is_field = before.ends_with("at ") && value.len() <= 64 && value.bytes().all(is_of_field);
        kept.push_str(&format!("{quote}{}{quote}", if is_field { value } else { "[...]" }));
        rest = behind;
    }
    kept.push_str(&without_data(rest));
    kept
}

/// Where a quoted value begins: at a quote that is no apostrophe within a word.
fn opening_quote(text: &str) -> Option<usize> {
    let quotes = text.match_indices(['"', '\'', '`']);
    let mut opening = quotes.filter(|(at, _)| !text[..*at].ends_with(char::is_alphanumeric));
    opening.next().map(|(at, _)| at)
}

const fn is_of_field(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'.')
}

/// The words of a sentence that may follow `value`.
const AFTER_VALUE: [&str; 14] = [
    "and", "at", "cannot", "does", "exceeds", "for", "has", "in", "is", "must", "of", "should", "too", "was",
];

fn without_data(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    let mut after_value = false;
    while !rest.is_empty() {
        let run = rest.find(|c: char| !is_of_base64(c)).unwrap_or(rest.len());
        let (word, behind) = rest.split_at(run);
        let is_value = after_value && !word.is_empty() && !AFTER_VALUE.contains(&word);
        kept.push_str(if is_value || may_be_data(word) { "[...]" } else { word });
        after_value = word.eq_ignore_ascii_case("value");
        let other = behind.find(is_of_base64).unwrap_or(behind.len());
        let (between, next) = behind.split_at(other);
        kept.push_str(between);
        // A sentence that ends with the word names no value after it.
        after_value &= matches!(between, " " | ": " | "=");
        rest = next;
    }
    kept
}

/// Both alphabets of RFC 4648. Hexadecimal digits are among them.
fn is_of_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_')
}

fn may_be_data(word: &str) -> bool {
    if word.len() < DATA || word.starts_with("projects/") {
        return false;
    }
    let all = |fits: fn(u8) -> bool| word.bytes().all(fits);
    let one_case = all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'_' | b'-' | b'/'))
        || all(|byte| byte.is_ascii_uppercase() || matches!(byte, b'_' | b'-' | b'/'));
    // A code such as RSA_DECRYPT_OAEP_3072_SHA256. Base64 without a lower-case letter is not to be expected.
    let code = all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_') && word.contains('_');
    !(one_case || code)
}

#[cfg(test)]
mod tests {
    use super::scrubbed;

    #[test]
    fn what_may_be_a_key_is_left_out() {
        for data in [
            "AAECAwQFBgcICQoLDA0ODw==",
            "3q2+7w/AbCdEf+gHiJkLmNoPqRsTuVwXyZ012345678=",
            "3q2-7w_AbCdEf-gHiJkLmNoPqRsTuVwXyZ012345678",
            "000102030405060708090a0b0c0d0e0f",
            "QUJDREVGR0hJSktMTU5PUA",
        ] {
            assert_eq!(scrubbed(&format!("decoding {data} failed")), "decoding [...] failed");
            assert_eq!(scrubbed(&format!("plaintext:{data}")), "plaintext:[...]");
        }
        assert_eq!(scrubbed("x=3q2+7w/AbCdEf+gHiJkL"), "[...]");
    }

    #[test]
    fn what_is_quoted_is_left_out_but_for_fields() {
        for (said, kept) in [
            (
                "1 validation error detected: Value 'orders' at 'encryptionContext' failed to satisfy constraint",
                "1 validation error detected: Value '[...]' at 'encryptionContext' failed to satisfy constraint",
            ),
            (
                "Invalid value at 'plaintext' (TYPE_BYTES), Base64 decoding failed for \"top secret\".",
                "Invalid value at 'plaintext' (TYPE_BYTES), Base64 decoding failed for \"[...]\".",
            ),
            (
                "Property has invalid value top-secret here",
                "Property has invalid value [...] here",
            ),
            (
                "A value of the key is missing a value. So it is",
                "A value of the key is missing a value. So it is",
            ),
            ("Value 'it's mine' at 'x'", "Value '[...]' at 'x'"),
            ("the key's name is \"without end", "the key's name is \"[...]\""),
        ] {
            assert_eq!(scrubbed(said), kept);
        }
    }

    #[test]
    fn words_and_names_stay() {
        for said in [
            "",
            "The request has an invalid argument: additional_authenticated_data is too long.",
            "Algorithm RSA_DECRYPT_OAEP_3072_SHA256 is not valid for purpose ENCRYPT_DECRYPT.",
            "projects/acme-1/locations/europe-west3/keyRings/claviger/cryptoKeys/orders-2026 is in an unsupported location; e\u{301}tat.",
        ] {
            assert_eq!(scrubbed(said), said);
        }
    }
}

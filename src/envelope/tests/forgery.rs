//! Every bit of an envelope flipped, and parts of two envelopes mixed: as it is, sealed anew
//! (so that it is not the seal alone that refuses), and without a seal.

use claviger_provider::Secret;

use super::{context, copy, direct, finish, is_sealed, sealed};
use crate::envelope::parsed::Item;
use crate::envelope::{DataKeyLength, Draft, Envelope, Rejected, SealKey, SealStatus, cbor, recipient};

/// The same parts under a new seal, or none: what a forger who holds the seal key could make.
fn reseal(envelope: &Envelope, key: Option<&SealKey>) -> Envelope {
    let encoded = cbor::to_vec(|e| recipient::encode_all(envelope.recipients(), e));
    let seal = key.map(|key| key.seal(envelope.header_bytes(), &envelope.commitment, &encoded, envelope.payload()));
    Envelope::assemble(&Item {
        header: envelope.header_bytes(),
        commitment: &envelope.commitment,
        recipients: envelope.recipients(),
        payload: envelope.payload(),
        seal: seal.as_ref(),
    })
    .unwrap()
}

fn open(envelope: &Envelope, k: &Secret) -> Result<Secret, Rejected> {
    let bound = context().bind(envelope.header());
    envelope.open(copy(k), &bound).map(crate::envelope::Opened::into_plaintext)
}

#[test]
fn no_flipped_bit_opens() {
    let key = SealKey::generate();
    for draft in [direct(DataKeyLength::B16), sealed(b"a password")] {
        let honest = finish(&draft, &key);
        let plaintext = open(&honest, draft.data_key()).unwrap();
        let mut elsewhere = [0; 3];
        for bit in 0..honest.as_binary().len() * 8 {
            let mut binary = honest.as_binary().to_vec();
            binary[bit / 8] ^= 1 << (bit % 8);
            let Ok(forged) = Envelope::parse_binary(&binary) else {
                elsewhere[0] += 1;
                continue;
            };
            assert_ne!(forged.as_text(), honest.as_text());
            assert!(!is_sealed(&forged, &key), "bit {bit}: the seal still holds");

            let same_body = forged.header_bytes() == honest.header_bytes()
                && forged.commitment == honest.commitment
                && forged.payload() == honest.payload();
            for envelope in [reseal(&forged, Some(&key)), reseal(&forged, None)] {
                if !same_body {
                    assert_eq!(open(&envelope, draft.data_key()).err(), Some(Rejected), "bit {bit}");
                }
            }
            if same_body {
                // What K would open is untouched, so the bit is in the recipient, which now
                // names another key or holds another ciphertext, or in the seal.
                elsewhere[1] += usize::from(forged.recipients() != honest.recipients());
                elsewhere[2] += usize::from(forged.recipients() == honest.recipients());
                assert_eq!(open(&forged, draft.data_key()).unwrap(), plaintext);
            }
        }
        assert!(elsewhere.iter().all(|count| *count > 0), "{elsewhere:?}");
        // Of a seal only its 40 bytes can change and still be read.
        assert_eq!(elsewhere[2], 40 * 8);
    }
}

#[test]
fn no_other_character_of_the_text_gives_the_same_key() {
    let draft = direct(DataKeyLength::B32);
    let key = SealKey::generate();
    let honest = finish(&draft, &key);
    for at in 0..honest.as_text().len() {
        for other in [b'A', b'B', b'_', b'-', b'=', b'.', b' ', 0] {
            let mut text = honest.as_text().as_bytes().to_vec();
            if text[at] == other {
                continue;
            }
            text[at] = other;
            if let Ok(forged) = Envelope::parse(std::str::from_utf8(&text).unwrap()) {
                assert_ne!(forged.as_binary(), honest.as_binary(), "character {at}");
                assert!(!is_sealed(&forged, &key), "character {at}");
            }
        }
    }
}

#[test]
fn parts_of_two_envelopes_do_not_mix() {
    let key = SealKey::generate();
    let drafts: [Draft; 2] = [sealed(b"first"), sealed(b"other")];
    let [a, b] = drafts.each_ref().map(|draft| finish(draft, &key));
    let k = drafts[0].data_key();
    let honest = || Item {
        header: a.header_bytes(),
        commitment: &a.commitment,
        recipients: a.recipients(),
        payload: a.payload(),
        seal: a.seal.as_ref(),
    };
    let mixed = [
        Item {
            header: b.header_bytes(),
            ..honest()
        },
        Item {
            commitment: &b.commitment,
            ..honest()
        },
        Item {
            payload: b.payload(),
            ..honest()
        },
    ];
    for item in mixed {
        let forged = Envelope::assemble(&item).unwrap();
        assert!(matches!(forged.seal_status([&key]), SealStatus::Forged));
        for envelope in [reseal(&forged, Some(&key)), reseal(&forged, None)] {
            assert_eq!(open(&envelope, k).err(), Some(Rejected));
        }
    }

    let stranger = Envelope::assemble(&Item {
        recipients: b.recipients(),
        ..honest()
    })
    .unwrap();
    assert!(matches!(stranger.seal_status([&key]), SealStatus::Forged));
    // The other envelope's recipient holds the other K, which this commitment does not know.
    assert_eq!(open(&stranger, drafts[1].data_key()).err(), Some(Rejected));

    let borrowed = Envelope::assemble(&Item {
        seal: b.seal.as_ref(),
        ..honest()
    })
    .unwrap();
    assert!(matches!(borrowed.seal_status([&key]), SealStatus::Forged));
    assert!(matches!(borrowed.seal_status([&SealKey::generate()]), SealStatus::Unsealed));
    assert!(matches!(reseal(&a, None).seal_status([&key]), SealStatus::Unsealed));
}

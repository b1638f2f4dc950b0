//! What the server answers: its one key, with real AES-GCM.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use claviger_provider_kmip::ttlv::{Item, Tag, Value, Writer};

use crate::server::{Fault, State};

pub const DISCOVER: u32 = 0x1E;
pub const QUERY: u32 = 0x18;
pub const CREATE: u32 = 1;
pub const ATTRIBUTES: u32 = 0x0B;
pub const ENCRYPT: u32 = 0x1F;
pub const DECRYPT: u32 = 0x20;
const RE_KEY: u32 = 4;
pub const LOCATE: u32 = 8;
pub const ACTIVATE: u32 = 0x12;

pub const HEADER: u32 = 0x42_0077;
pub const CORRELATION: u32 = 0x42_0105;
pub const BATCH_ITEM: u32 = 0x42_000F;
pub const OPERATION: u32 = 0x42_005C;
const UNIQUE_BATCH_ITEM_ID: u32 = 0x42_0093;
const UNIQUE_IDENTIFIER: u32 = 0x42_0094;
const DATA: u32 = 0x42_00C2;
const IV: u32 = 0x42_003D;
const AAD: u32 = 0x42_00FE;
const TAG: u32 = 0x42_00FF;
const IV_LENGTH: u32 = 0x42_00CD;
const TAG_LENGTH: u32 = 0x42_00CE;
const PROTOCOL_VERSION: u32 = 0x42_0069;

/// The key of the server, and another one that it never gives out.
pub const KEY: &str = "the-key";
const OTHER_KEY: &str = "another-key";
/// A key for which the server fails.
pub const BROKEN_KEY: &str = "broken-key";

/// The member of a structure with a tag.
pub fn member<'i, 'a>(item: &'i Item<'a>, tag: u32) -> Option<&'i Item<'a>> {
    item.value.structure().unwrap().iter().find(|member| member.tag == Tag(tag))
}

fn bytes<'a>(item: &Item<'a>, tag: u32) -> Option<&'a [u8]> {
    member(item, tag).map(|member| member.value.bytes().unwrap())
}

fn numbers(version: &Item<'_>) -> (i32, i32) {
    let number = |tag| member(version, tag).unwrap().value.integer().unwrap();
    (number(0x42_006A), number(0x42_006B))
}

/// A refusal: its reason.
struct Refused(u32);

/// The response to a request, spoilt by a fault.
pub fn response(request: &Item<'_>, operation: u32, fault: Option<&Fault>, state: &mut State) -> Vec<u8> {
    let header = member(request, HEADER).unwrap();
    let spoken = numbers(member(header, PROTOCOL_VERSION).unwrap());
    let item = member(request, BATCH_ITEM).unwrap();
    let mut id = bytes(item, UNIQUE_BATCH_ITEM_ID).unwrap().to_vec();
    if let Some(Fault::OtherId) = fault {
        id[0] ^= 1;
    }
    let payload = member(item, 0x42_0079).unwrap();
    let knows_version = state.versions.contains(&spoken);
    let mut done = Writer::with_room(8192);
    let outcome = match fault {
        Some(Fault::Refuse(reason) | Fault::RefuseMessage(reason)) => Err(Refused(*reason)),
        Some(_) | None if !knows_version => Err(Refused(4)),
        Some(_) | None => write(&mut done, operation, payload, spoken, fault, state),
    };
    let is_of_message = !knows_version || matches!(fault, Some(Fault::RefuseMessage(_)));
    let mut writer = Writer::with_room(16_384);
    writer.structure(Tag(0x42_007B), |writer| {
        writer.structure(Tag(0x42_007A), |writer| {
            version(writer, if is_of_message { (1, 0) } else { spoken });
            writer.integer(Tag(0x42_000D), 1);
        });
        writer.structure(Tag(BATCH_ITEM), |writer| {
            if !is_of_message {
                writer.enumeration(Tag(OPERATION), operation);
                writer.bytes(Tag(UNIQUE_BATCH_ITEM_ID), &id);
            }
            match outcome {
                Ok(()) => {
                    writer.enumeration(Tag(0x42_007F), if matches!(fault, Some(Fault::Pending)) { 2 } else { 0 });
                    let written = done.finish();
                    let payload = claviger_provider_kmip::ttlv::parse(&written).unwrap();
                    writer.item(&payload);
                }
                Err(Refused(reason)) => {
                    writer.enumeration(Tag(0x42_007F), 1);
                    writer.enumeration(Tag(0x42_007E), reason);
                    writer.text(Tag(0x42_007D), "refused");
                }
            }
        });
    });
    writer.finish().to_vec()
}

fn version(writer: &mut Writer, (major, minor): (i32, i32)) {
    writer.structure(Tag(PROTOCOL_VERSION), |writer| {
        writer.integer(Tag(0x42_006A), major);
        writer.integer(Tag(0x42_006B), minor);
    });
}

/// Writes the payload of the response.
fn write(
    writer: &mut Writer,
    operation: u32,
    payload: &Item<'_>,
    spoken: (i32, i32),
    fault: Option<&Fault>,
    state: &mut State,
) -> Result<(), Refused> {
    let named = member(payload, UNIQUE_IDENTIFIER).map(|id| id.value.text().unwrap());
    match named {
        Some(BROKEN_KEY) => return Err(Refused(0x2A)),
        Some(id) if id != KEY => return Err(Refused(1)),
        Some(_) | None => {}
    }
    let shown = if matches!(fault, Some(Fault::OtherKey)) { OTHER_KEY } else { KEY };
    let sealed = match operation {
        ENCRYPT => Some(encrypt(payload, fault)),
        DECRYPT => Some(decrypt(payload, fault).ok_or(Refused(0x100))?),
        _ => None,
    };
    if operation == CREATE {
        state.created = Some(attributes_of(payload, spoken));
        state.made = name_of(payload).map(|name| (name.to_owned(), false));
    }
    if let (ACTIVATE, Some((_, active))) = (operation, &mut state.made) {
        *active = true;
    }
    writer.structure(Tag(0x42_007C), |writer| {
        match operation {
            DISCOVER => {
                let offered: Vec<_> = payload.value.structure().unwrap().iter().map(numbers).collect();
                let common = state
                    .versions
                    .iter()
                    .filter(|version| offered.is_empty() || offered.contains(version));
                common.for_each(|spoken| version(writer, *spoken));
                return;
            }
            QUERY => {
                for operation in [DISCOVER, QUERY, CREATE, RE_KEY, LOCATE, ACTIVATE, ATTRIBUTES, ENCRYPT, DECRYPT] {
                    writer.enumeration(Tag(OPERATION), operation);
                }
                return;
            }
            LOCATE => {
                let made = state.made.as_ref().map(|(name, _)| name.as_str());
                if made.is_some() && made == name_of(payload) {
                    writer.text(Tag(UNIQUE_IDENTIFIER), KEY);
                }
                return;
            }
            CREATE => writer.enumeration(Tag(0x42_0057), 2),
            _ => {}
        }
        writer.text(Tag(UNIQUE_IDENTIFIER), shown);
        match operation {
            ATTRIBUTES => attributes(writer, spoken, state),
            ENCRYPT | DECRYPT => {
                let sealed = sealed.unwrap();
                writer.bytes(Tag(DATA), &sealed.data);
                if let Some(iv) = &sealed.iv {
                    writer.bytes(Tag(IV), iv);
                }
                if let Some(tag) = &sealed.tag {
                    writer.bytes(Tag(TAG), tag);
                }
            }
            _ => {}
        }
    });
    Ok(())
}

fn attributes(writer: &mut Writer, spoken: (i32, i32), state: &State) {
    let is_active = state.made.as_ref().is_none_or(|(_, active)| *active);
    let all: [(&str, u32, Value<'_>); 5] = [
        ("Object Type", 0x42_0057, Value::Enumeration(2)),
        ("State", 0x42_008D, Value::Enumeration(if is_active { 2 } else { 1 })),
        ("Cryptographic Algorithm", 0x42_0028, Value::Enumeration(3)),
        ("Cryptographic Length", 0x42_002A, Value::Integer(256)),
        ("Cryptographic Usage Mask", 0x42_002C, Value::Integer(state.usage_mask())),
    ];
    if spoken == (2, 0) {
        writer.structure(Tag(0x42_0125), |writer| {
            for (_, tag, value) in all {
                writer.item(&Item { tag: Tag(tag), value });
            }
        });
        return;
    }
    for (name, _, value) in all {
        writer.structure(Tag(0x42_0008), |writer| {
            writer.text(Tag(0x42_000A), name);
            writer.item(&Item {
                tag: Tag(0x42_000B),
                value,
            });
        });
    }
}

/// The tags of the attributes in a request to make a key (of 2.0 alone).
fn attributes_of(payload: &Item<'_>, spoken: (i32, i32)) -> Vec<u32> {
    assert_eq!(spoken, (2, 0));
    let all = member(payload, 0x42_0125).unwrap().value.structure().unwrap();
    all.iter().map(|attribute| attribute.tag.0).collect()
}

/// The name in a request of 2.0.
fn name_of<'i>(payload: &'i Item<'_>) -> Option<&'i str> {
    let name = member(member(payload, 0x42_0125)?, 0x42_0053)?;
    Some(member(name, 0x42_0055)?.value.text().unwrap())
}

struct Sealed {
    data: Vec<u8>,
    iv: Option<Vec<u8>>,
    tag: Option<Vec<u8>>,
}

fn cipher() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).unwrap())
}

/// Checks the lengths in the parameters: that of the vector is in bits, that of the tag in bytes.
fn check_lengths(payload: &Item<'_>) {
    let parameters = member(payload, 0x42_002B).unwrap();
    let length = |tag| member(parameters, tag).unwrap().value.integer().unwrap();
    let iv = i32::try_from(bytes(payload, IV).unwrap().len() * 8).unwrap();
    assert_eq!((length(IV_LENGTH), length(TAG_LENGTH)), (iv, 16));
}

fn encrypt(payload: &Item<'_>, fault: Option<&Fault>) -> Sealed {
    check_lengths(payload);
    let given = bytes(payload, IV).unwrap();
    let own = matches!(fault, Some(Fault::OwnIv { .. }));
    let iv: [u8; 12] = if own { [9; 12] } else { given.try_into().unwrap() };
    let mut data = bytes(payload, DATA).unwrap().to_vec();
    let aad = Aad::from(bytes(payload, AAD).unwrap());
    let tag = cipher().seal_in_place_separate_tag(Nonce::assume_unique_for_key(iv), aad, &mut data);
    let mut tag = tag.unwrap().as_ref().to_vec();
    if let Some(Fault::Flip) = fault {
        tag[0] ^= 1;
    }
    Sealed {
        data,
        iv: matches!(fault, Some(Fault::OwnIv { told: true })).then(|| iv.to_vec()),
        tag: Some(tag),
    }
}

fn decrypt(payload: &Item<'_>, fault: Option<&Fault>) -> Option<Sealed> {
    check_lengths(payload);
    let iv: [u8; 12] = bytes(payload, IV).unwrap().try_into().ok()?;
    let mut data = [bytes(payload, DATA).unwrap(), bytes(payload, TAG).unwrap()].concat();
    let aad = Aad::from(bytes(payload, AAD).unwrap());
    let mut opened = cipher()
        .open_in_place(Nonce::assume_unique_for_key(iv), aad, &mut data)
        .ok()?
        .to_vec();
    if let Some(Fault::Flip) = fault {
        opened[0] ^= 1;
    }
    Some(Sealed {
        data: opened,
        iv: None,
        tag: None,
    })
}

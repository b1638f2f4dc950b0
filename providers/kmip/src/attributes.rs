//! Attributes of keys, which 1.4 names by texts and 2.0 by tags.

use crate::message::{Fields, Malformed};
use crate::tags::{self, Version};
use crate::ttlv::{Item, Tag, Value, Writer};

/// An attribute that the adapter writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attribute<'a> {
    Name(&'a str),
    Algorithm(u32),
    Length(i32),
    UsageMask(i32),
    Sensitive(bool),
    Extractable(bool),
    ObjectType(u32),
}

/// The names in 1.4 of the attributes that the adapter reads and writes, with their tags.
const NAMES: [(&str, Tag); 9] = [
    ("Name", tags::NAME),
    ("Cryptographic Algorithm", tags::CRYPTOGRAPHIC_ALGORITHM),
    ("Cryptographic Length", tags::CRYPTOGRAPHIC_LENGTH),
    ("Cryptographic Usage Mask", tags::CRYPTOGRAPHIC_USAGE_MASK),
    ("Sensitive", tags::SENSITIVE),
    ("Extractable", tags::EXTRACTABLE),
    ("Object Type", tags::OBJECT_TYPE),
    ("State", tags::STATE),
    ("Initial Date", tags::INITIAL_DATE),
];

impl Attribute<'_> {
    const fn tag(self) -> Tag {
        match self {
            Self::Name(_) => tags::NAME,
            Self::Algorithm(_) => tags::CRYPTOGRAPHIC_ALGORITHM,
            Self::Length(_) => tags::CRYPTOGRAPHIC_LENGTH,
            Self::UsageMask(_) => tags::CRYPTOGRAPHIC_USAGE_MASK,
            Self::Sensitive(_) => tags::SENSITIVE,
            Self::Extractable(_) => tags::EXTRACTABLE,
            Self::ObjectType(_) => tags::OBJECT_TYPE,
        }
    }

    fn value(self, writer: &mut Writer, tag: Tag) {
        match self {
            Self::Name(name) => writer.structure(tag, |writer| {
                writer.text(tags::NAME_VALUE, name);
                writer.enumeration(tags::NAME_TYPE, tags::UNINTERPRETED_TEXT);
            }),
            Self::Algorithm(value) | Self::ObjectType(value) => writer.enumeration(tag, value),
            Self::Length(value) | Self::UsageMask(value) => writer.integer(tag, value),
            Self::Sensitive(value) | Self::Extractable(value) => writer.boolean(tag, value),
        }
    }

    fn write(self, writer: &mut Writer, version: Version) {
        match version {
            Version::V2_0 => self.value(writer, self.tag()),
            Version::V1_4 => writer.structure(tags::ATTRIBUTE, |writer| {
                let name = NAMES.iter().find(|(_, tag)| *tag == self.tag()).map(|(name, _)| *name);
                writer.text(tags::ATTRIBUTE_NAME, name.unwrap_or_default());
                self.value(writer, tags::ATTRIBUTE_VALUE);
            }),
        }
    }
}

/// Writes the attributes of a key to make.
pub(crate) fn write_template(writer: &mut Writer, version: Version, attributes: &[Attribute<'_>]) {
    let container = match version {
        Version::V1_4 => tags::TEMPLATE_ATTRIBUTE,
        Version::V2_0 => tags::ATTRIBUTES,
    };
    writer.structure(container, |writer| {
        attributes.iter().for_each(|attribute| attribute.write(writer, version))
    });
}

/// Writes the attributes of keys to find.
pub(crate) fn write_pattern(writer: &mut Writer, version: Version, attributes: &[Attribute<'_>]) {
    match version {
        Version::V1_4 => attributes.iter().for_each(|attribute| attribute.write(writer, version)),
        Version::V2_0 => write_template(writer, version, attributes),
    }
}

/// The attributes of a response by their tags. Those that the adapter does not know are left out.
pub(crate) fn read(payload: &Fields<'_>, version: Version) -> Result<Known, Malformed> {
    let mut known = Known::default();
    match version {
        Version::V2_0 => {
            let container = payload.required(tags::ATTRIBUTES, "attributes", |value| Fields::of(value.clone(), "attributes").ok())?;
            for Item { tag, value } in container.items() {
                known.take(tag, &value)?;
            }
        }
        Version::V1_4 => {
            for attribute in payload.all(tags::ATTRIBUTE) {
                let attribute = Fields::of(attribute.clone(), "attribute")?;
                let name = attribute.required(tags::ATTRIBUTE_NAME, "attribute", Value::text)?;
                if let Some((_, tag)) = NAMES.iter().find(|(known, _)| *known == name) {
                    let value = attribute.required(tags::ATTRIBUTE_VALUE, "attribute", |value| Some(value.clone()))?;
                    known.take(*tag, &value)?;
                }
            }
        }
    }
    Ok(known)
}

/// The attributes that the adapter knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) state: Option<u32>,
    pub(crate) object_type: Option<u32>,
    pub(crate) algorithm: Option<u32>,
    pub(crate) length: Option<i32>,
    pub(crate) usage_mask: Option<i32>,
    /// Seconds since 1970.
    pub(crate) initial_date: Option<i64>,
    pub(crate) sensitive: Option<bool>,
    pub(crate) extractable: Option<bool>,
}

impl Known {
    fn take(&mut self, tag: Tag, value: &Value<'_>) -> Result<(), Malformed> {
        fn set<T>(place: &mut Option<T>, value: Option<T>) -> Result<(), Malformed> {
            match (&place, value) {
                (None, Some(value)) => {
                    *place = Some(value);
                    Ok(())
                }
                // Of another type, or there twice.
                (Some(_) | None, _) => Err("attribute"),
            }
        }
        match tag {
            tags::STATE => set(&mut self.state, value.enumeration()),
            tags::OBJECT_TYPE => set(&mut self.object_type, value.enumeration()),
            tags::CRYPTOGRAPHIC_ALGORITHM => set(&mut self.algorithm, value.enumeration()),
            tags::CRYPTOGRAPHIC_LENGTH => set(&mut self.length, value.integer()),
            tags::CRYPTOGRAPHIC_USAGE_MASK => set(&mut self.usage_mask, value.integer()),
            tags::INITIAL_DATE => set(&mut self.initial_date, value.date()),
            tags::SENSITIVE => set(&mut self.sensitive, value.boolean()),
            tags::EXTRACTABLE => set(&mut self.extractable, value.boolean()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

    use super::{Attribute, Known, read, write_template};
    use crate::message::Fields;
    use crate::tags::{self, Version};
    use crate::ttlv::{Tag, Writer, parse};

    /// What a server returns for a key with these attributes.
    fn returned(version: Version, attributes: &[Attribute<'_>]) -> Result<Known, &'static str> {
        let mut writer = Writer::with_room(1024);
        writer.structure(tags::RESPONSE_PAYLOAD, |writer| match version {
            Version::V1_4 => {
                attributes.iter().for_each(|attribute| attribute.write(writer, version));
                writer.structure(tags::ATTRIBUTE, |writer| {
                    writer.text(tags::ATTRIBUTE_NAME, "x-Vendor");
                    writer.structure(tags::ATTRIBUTE_VALUE, |_| {});
                });
            }
            Version::V2_0 => write_template(writer, version, attributes),
        });
        let bytes = writer.finish();
        read(&Fields::of(parse(&bytes).unwrap().value, "payload")?, version)
    }

    #[test]
    fn attributes_are_read_in_both_forms() {
        let attributes = [
            Attribute::Name("k"),
            Attribute::Algorithm(3),
            Attribute::Length(256),
            Attribute::UsageMask(12),
            Attribute::Extractable(false),
            Attribute::ObjectType(2),
        ];
        for version in Version::ALL {
            let known = returned(version, &attributes).unwrap();
            let expected = Known {
                object_type: Some(2),
                algorithm: Some(3),
                length: Some(256),
                usage_mask: Some(12),
                extractable: Some(false),
                ..Known::default()
            };
            assert_eq!(known, expected, "{version:?}");
            let twice = [Attribute::Length(256), Attribute::Length(128)];
            assert_eq!(returned(version, &twice), Err("attribute"));
        }
    }

    #[test]
    fn an_attribute_of_another_type_is_malformed() {
        let mut writer = Writer::with_room(256);
        writer.structure(tags::RESPONSE_PAYLOAD, |writer| {
            writer.structure(tags::ATTRIBUTES, |writer| {
                writer.text(Tag(0x54_0001), "a vendor's");
                writer.text(tags::STATE, "Active");
            });
        });
        let bytes = writer.finish();
        let payload = Fields::of(parse(&bytes).unwrap().value, "payload").unwrap();
        assert_eq!(read(&payload, Version::V2_0), Err("attribute"));
    }
}

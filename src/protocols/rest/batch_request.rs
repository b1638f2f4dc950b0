//! The body of a batch. Each item has the members of the single operation's body and the key's name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use utoipa::openapi::schema::{AdditionalProperties, Array, Object, OneOf, Type};
use utoipa::openapi::{Ref, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::types::Name;
use crate::broker::MAX_ITEMS;

/// Name of the member that contains the key's name.
const KEY: &str = "key";

/// The name of an item's key: a required member ([`Name`]) or an optional one (`Option<Name>`).
pub trait ItemKey: DeserializeOwned + Send + 'static {
    /// The value of an absent member; `None` if the member is required.
    fn left_out() -> Option<Self>;

    /// The schema of an item's member `key`.
    fn member() -> RefOr<Schema>;
}

fn reference_to_name(description: &str) -> Ref {
    let name = Ref::builder().ref_location_from_schema_name(Name::name());
    name.description(Some(description)).build()
}

impl ItemKey for Name {
    fn left_out() -> Option<Self> {
        None
    }

    fn member() -> RefOr<Schema> {
        reference_to_name("The key's name.").into()
    }
}

impl ItemKey for Option<Name> {
    fn left_out() -> Option<Self> {
        Some(None)
    }

    fn member() -> RefOr<Schema> {
        let name = reference_to_name("The key's name. Left out: the key that the wrapped key names.");
        let null = Object::builder().schema_type(Type::Null);
        OneOf::builder().item(name).item(null).into()
    }
}

/// The body of a single operation that also exists as a batch, with the names of the batch's schemas.
pub trait ItemBody: DeserializeOwned + ToSchema + Send + 'static {
    /// The type of the member `key`.
    type Key: ItemKey;
    /// Name of an item's schema, such as `WrapItem`.
    const ITEM: &'static str;
    /// Description of an item, such as `One wrapped key to unwrap.`
    const ITEM_DESCRIPTION: &'static str;
    /// Name of the batch's schema, such as `BatchWrapRequest`.
    const BATCH: &'static str;
    /// Description of the batch, such as `Wrapped keys to unwrap.`
    const BATCH_DESCRIPTION: &'static str;
}

/// One item. Its decoder takes out the member `key` and passes the other members to the decoder of the
/// body. serde's `flatten` would do the same, but cannot refuse unknown members.
pub struct Item<B: ItemBody> {
    /// The key's name.
    pub key: B::Key,
    /// The body of the single operation.
    pub body: B,
}

impl<'de, B: ItemBody> Deserialize<'de> for Item<B> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        d.deserialize_map(ItemVisitor(PhantomData))
    }
}

struct ItemVisitor<B>(PhantomData<B>);

impl<'de, B: ItemBody> Visitor<'de> for ItemVisitor<B> {
    type Value = Item<B>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Item<B>, A::Error> {
        let mut key = None;
        let body = B::deserialize(MapAccessDeserializer::new(WithoutKey { map, key: &mut key }))?;
        let key = key.or_else(B::Key::left_out).ok_or_else(|| A::Error::missing_field(KEY))?;
        Ok(Item { key, body })
    }
}

/// Passes on the members of an item except `key`, whose value it stores.
struct WithoutKey<'k, A, K> {
    map: A,
    key: &'k mut Option<K>,
}

impl<'de, A: MapAccess<'de>, K: Deserialize<'de>> MapAccess<'de> for WithoutKey<'_, A, K> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, mut seed: S) -> Result<Option<S::Value>, A::Error> {
        loop {
            match self.map.next_key_seed(NotKey(seed))? {
                None => return Ok(None),
                Some(Ok(member)) => return Ok(Some(member)),
                Some(Err(unused)) => seed = unused,
            }
            if self.key.is_some() {
                return Err(A::Error::duplicate_field(KEY));
            }
            *self.key = Some(self.map.next_value()?);
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// Decodes a member's name with a seed, or returns the seed unused if the name is `key`.
struct NotKey<S>(S);

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for NotKey<S> {
    type Value = Result<S::Value, S>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        d.deserialize_identifier(self)
    }
}

impl<'de, S: DeserializeSeed<'de>> Visitor<'de> for NotKey<S> {
    type Value = Result<S::Value, S>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Self::Value, E> {
        if name == KEY {
            Ok(Err(self.0))
        } else {
            self.0.deserialize(StrDeserializer::new(name)).map(Ok)
        }
    }
}

impl<B: ItemBody> PartialSchema for Item<B> {
    fn schema() -> RefOr<Schema> {
        let mut schema = B::schema();
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.description = Some(B::ITEM_DESCRIPTION.to_owned());
            object.properties.insert(KEY.to_owned(), B::Key::member());
            if B::Key::left_out().is_none() {
                object.required.insert(0, KEY.to_owned());
            }
        }
        schema
    }
}

impl<B: ItemBody> ToSchema for Item<B> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(B::ITEM)
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((Name::name().into_owned(), Name::schema()));
        B::schemas(schemas);
    }
}

/// A batch: 1 to 1000 items.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, bound = "")]
pub struct BatchRequest<B: ItemBody> {
    /// The items.
    #[serde(deserialize_with = "items")]
    pub items: Vec<Item<B>>,
}

/// Decodes the items. Fails at the first one that is too many: a body has room for millions.
fn items<'de, D: Deserializer<'de>, B: ItemBody>(d: D) -> Result<Vec<Item<B>>, D::Error> {
    struct Items<B>(PhantomData<B>);
    impl<'de, B: ItemBody> Visitor<'de> for Items<B> {
        type Value = Vec<Item<B>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
            let mut items = Vec::new();
            while let Some(item) = seq.next_element()? {
                if items.len() == MAX_ITEMS {
                    return Err(A::Error::invalid_length(MAX_ITEMS + 1, &"1 to 1000 items"));
                }
                items.push(item);
            }
            Ok(items)
        }
    }
    d.deserialize_seq(Items(PhantomData))
}

impl<B: ItemBody> PartialSchema for BatchRequest<B> {
    fn schema() -> RefOr<Schema> {
        let items = Array::builder()
            .items(Ref::from_schema_name(B::ITEM))
            .min_items(Some(1))
            .max_items(Some(MAX_ITEMS))
            .description(Some("1 to 1000 items."));
        let batch = Object::builder().property("items", items).required("items");
        batch
            .additional_properties(Some(AdditionalProperties::<Schema>::FreeForm(false)))
            .description(Some(B::BATCH_DESCRIPTION))
            .into()
    }
}

impl<B: ItemBody> ToSchema for BatchRequest<B> {
    fn name() -> Cow<'static, str> {
        Cow::Borrowed(B::BATCH)
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        schemas.push((B::ITEM.to_owned(), Item::<B>::schema()));
        Item::<B>::schemas(schemas);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use super::super::data_keys::{UnwrapRequest, WrapRequest};
    use super::super::json::decode;
    use super::{BatchRequest, MAX_ITEMS};

    fn pointer(body: &str) -> String {
        decode::<BatchRequest<WrapRequest>>(body.as_bytes()).err().unwrap().pointer
    }

    #[test]
    fn an_item_is_the_single_body_and_a_key() {
        let body = br#"{"items":[{"plaintext":"AAAA","key":"orders","context":{"a":"b"}}]}"#;
        let batch = decode::<BatchRequest<WrapRequest>>(body).ok().unwrap();
        assert_eq!(batch.items[0].key.as_str(), "orders");
        assert!(batch.items[0].body.context.is_some());
        for (key, expected) in [("", None), (r#","key":null"#, None), (r#","key":"orders""#, Some("orders"))] {
            let body = format!(r#"{{"items":[{{"wrapped":"clv1.x"{key}}}]}}"#);
            let batch = decode::<BatchRequest<UnwrapRequest>>(body.as_bytes()).ok().unwrap();
            assert_eq!(batch.items[0].key.as_ref().map(|name| name.as_str()), expected);
        }
    }

    #[test]
    fn what_an_item_may_not_be_is_told_with_its_place() {
        let good = r#"{"key":"a","plaintext":"AAAA"}"#;
        for (item, place) in [
            (r#"{"plaintext":"AAAA"}"#, "/items/1"),
            (r#"{"key":"a"}"#, "/items/1"),
            (r#"{"key":"a","key":"b","plaintext":"AAAA"}"#, "/items/1"),
            (r#"{"key":"a","plaintext":"AAAA","plaintext":"AAAA"}"#, "/items/1"),
            (r#"{"key":"a","plaintext":"AAAA","surprise":1}"#, "/items/1"),
            (r#"{"key":"../a","plaintext":"AAAA"}"#, "/items/1/key"),
            (r#"{"key":null,"plaintext":"AAAA"}"#, "/items/1/key"),
            (r#"{"key":"a","plaintext":"!"}"#, "/items/1/plaintext"),
            (r#"["a","AAAA"]"#, "/items/1"),
        ] {
            assert_eq!(pointer(&format!(r#"{{"items":[{good},{item}]}}"#)), place, "{item}");
        }
        assert_eq!(pointer(r#"{"items":{}}"#), "/items");
        // Refused at the first one that is too many: what follows it is not read.
        let items = vec![good; MAX_ITEMS + 1].join(",");
        assert_eq!(pointer(&format!(r#"{{"items":[{items},!"#)), "/items");
        assert_eq!(pointer(r#"{"items":[],"more":1}"#), "");
    }
}

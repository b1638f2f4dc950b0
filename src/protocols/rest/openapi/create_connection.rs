//! `CreateConnection`: one schema for each provider, so that clients have typed settings.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::schemas::referred;
use crate::protocols::rest::connection_settings::{
    AwsSettings, AzureSettings, GcpSettings, KmipSettings, LocalSettings, VaultSettings, XksSettings,
};
use crate::protocols::rest::route::{SchemaOf, reference, schema_of};

const NAME: &str = "CreateConnection";
/// Members of which a request gives exactly one are in schemas with these endings.
const EXACTLY_ONE: [&str; 2] = ["Auth", "Base"];

/// A provider that this release includes: its name, the name of its schema, and its settings.
struct Built {
    provider: &'static str,
    schema: &'static str,
    settings: SchemaOf,
}

const fn built<T: ToSchema>(provider: &'static str, schema: &'static str) -> Built {
    let settings = schema_of::<T>;
    Built {
        provider,
        schema,
        settings,
    }
}

const BUILT: [Built; 7] = [
    built::<LocalSettings>("local", "CreateLocalConnection"),
    built::<AwsSettings>("aws", "CreateAwsConnection"),
    built::<AzureSettings>("azure", "CreateAzureConnection"),
    built::<GcpSettings>("gcp", "CreateGcpConnection"),
    built::<VaultSettings>("vault", "CreateVaultConnection"),
    built::<XksSettings>("xks", "CreateXksConnection"),
    built::<KmipSettings>("kmip", "CreateKmipConnection"),
];

/// Replaces the one schema, whose settings are any object, by a choice of one for each provider.
pub(super) fn split(schemas: &mut Map<String, Value>) {
    let Some(any) = schemas.remove(NAME) else { return };
    let mut settings = Map::new();
    let (mut choices, mut mapping) = (Vec::new(), Map::new());
    for Built {
        provider,
        schema,
        settings: of,
    } in BUILT
    {
        let mut one = any.clone();
        let described = |member: &str, mut schema: Value| {
            schema["description"] = any["properties"][member]["description"].clone();
            schema
        };
        let of_settings = of(&mut settings);
        // "Settings of a connection to AWS KMS." describes the connection, too.
        let text = referred(&of_settings).and_then(|name| settings[name]["description"].as_str());
        if let Some(place) = text.and_then(|text| text.strip_prefix("Settings of a connection ")) {
            one["description"] = json!(format!("A new connection {}.", place.split('.').next().unwrap_or(place)));
        }
        one["properties"]["settings"] = described("settings", of_settings);
        // The discriminator's values are this string alone, not a reference to all names: generators read no further.
        one["properties"]["provider"] = described("provider", json!({"type": "string", "const": provider}));
        schemas.insert(schema.to_owned(), one);
        choices.push(reference(schema));
        mapping.insert(provider.to_owned(), reference(schema)["$ref"].clone());
    }
    for (name, schema) in &mut settings {
        if schema["type"] == "object" {
            // No parser of settings takes a member that it does not know.
            schema["additionalProperties"] = json!(false);
        }
        let optional = schema.get("required").is_none();
        if optional && EXACTLY_ONE.iter().any(|ending| name.ends_with(ending)) {
            schema["minProperties"] = json!(1);
            schema["maxProperties"] = json!(1);
        }
    }
    schemas.append(&mut settings);
    let discriminator = json!({"propertyName": "provider", "mapping": mapping});
    schemas.insert(
        NAME.to_owned(),
        json!({"description": any["description"], "oneOf": choices, "discriminator": discriminator}),
    );
}

//! What the owner of the keys has to permit. The API has no form for it, so it is a list of what requests carry.

use std::collections::BTreeSet;

use claviger_provider::{KeyId, TenantId};
use serde_json::json;

use crate::api::KmsOperation;
use crate::health::CANARY_KEY;
use crate::names::{Region, key_arn, principal_arn};

/// The values of the members that a proxy can decide by, for these external keys with their logical keys and the
/// connection's canary key. With `partial`, the connection has more keys.
pub(crate) fn printed(region: &Region, tenant: TenantId, keys: &[(String, KeyId)], canary: Option<&str>, partial: bool) -> String {
    let canary = canary.map(|name| (name, CANARY_KEY));
    let keys = keys.iter().map(|(name, key)| (name.as_str(), *key)).chain(canary);
    let (names, arns): (BTreeSet<_>, BTreeSet<_>) = keys.map(|(name, key)| (name, key_arn(region, tenant, key))).unzip();
    let mut all = json!({
        "externalKeyId": names,
        "awsPrincipalArn": principal_arn(tenant, "*"),
        "kmsKeyArn": arns,
        "kmsOperation": KmsOperation::OF_KEYS,
    });
    if partial {
        all["partial"] = json!("The connection has more keys than are listed here: permit those, too.");
    }
    format!("{all:#}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{KeyId, TenantId};
    use serde_json::{Value, json};

    use super::{Region, printed};

    #[test]
    fn it_names_what_requests_carry() {
        let region = Region::parse("eu-west-3").unwrap();
        let tenant = TenantId::from_bytes([1; 16]);
        let of = |name: &str, key: u8| (name.to_owned(), KeyId::from_bytes([key; 16]));
        let keys = [of("orders", 2), of("orders-2027", 2), of("bills", 3)];
        let arn = |key: u8| format!("arn:claviger:kms:eu-west-3:{}:key/{}", "01".repeat(16), hex::encode([key; 16]));
        let expected = json!({
            "externalKeyId": ["bills", "canary", "orders", "orders-2027"],
            "awsPrincipalArn": format!("arn:claviger:iam::{}:principal/*", "01".repeat(16)),
            "kmsKeyArn": [arn(0), arn(2), arn(3)],
            "kmsOperation": ["GenerateDataKey", "Encrypt", "Decrypt", "ReEncrypt", "DescribeKey"],
        });
        let now = |canary, partial| -> Value { serde_json::from_str(&printed(&region, tenant, &keys, canary, partial)).unwrap() };
        assert_eq!(now(Some("canary"), false), expected);
        let partial = now(None, true);
        assert_eq!(
            (&partial["externalKeyId"], partial["partial"].is_string()),
            (&json!(["bills", "orders", "orders-2027"]), true)
        );
    }
}

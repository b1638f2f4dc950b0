//! What the owner of the keys has to permit. The API has no form for it, so it is a list of what requests carry.

use claviger_provider::{KeyId, TenantId};
use serde_json::json;

use crate::api::KmsOperation;
use crate::names::{KeyName, Region, key_arn, principal_arn};

/// The values of the members that a proxy can decide by, for these external keys with their logical keys.
pub(crate) fn printed(region: &Region, tenant: TenantId, keys: &[(KeyName, KeyId)]) -> String {
    let arns: Vec<String> = keys.iter().map(|(_, key)| key_arn(region, tenant, *key)).collect();
    let names: Vec<&str> = keys.iter().map(|(name, _)| name.as_str()).collect();
    let all = json!({
        "externalKeyId": names,
        "awsPrincipalArn": principal_arn(tenant, "*"),
        "kmsKeyArn": arns,
        "kmsOperation": KmsOperation::OF_KEYS,
    });
    format!("{all:#}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::{KeyId, TenantId};
    use serde_json::{Value, json};

    use super::{KeyName, Region, printed};

    #[test]
    fn it_names_what_requests_carry() {
        let keys = [(KeyName::parse("orders").unwrap(), KeyId::from_bytes([2; 16]))];
        let text = printed(&Region::parse("eu-west-3").unwrap(), TenantId::from_bytes([1; 16]), &keys);
        let (ones, twos) = ("01".repeat(16), "02".repeat(16));
        let expected = json!({
            "externalKeyId": ["orders"],
            "awsPrincipalArn": format!("arn:claviger:iam::{ones}:principal/*"),
            "kmsKeyArn": [format!("arn:claviger:kms:eu-west-3:{ones}:key/{twos}")],
            "kmsOperation": ["GenerateDataKey", "Encrypt", "Decrypt", "ReEncrypt", "DescribeKey"],
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}

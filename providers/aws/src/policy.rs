//! The least that AWS has to grant, to paste: a policy of the identity, and a statement of
//! the policy of a key that is to be adopted.

use claviger_provider::TenantId;
use serde_json::{Value, json};

use crate::lifecycle::TENANT_TAG;
use crate::names::Region;
use crate::ownership::Proof;
use crate::provider::AwsProvider;

/// What is done with every key.
pub(crate) const USE: [&str; 5] = [
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
/// What is asked about it.
pub(crate) const READ: [&str; 3] = ["kms:DescribeKey", "kms:GetPublicKey", "kms:ListKeyRotations"];
/// What changes it.
pub(crate) const CHANGE: [&str; 3] = ["kms:DisableKey", "kms:EnableKey", "kms:RotateKeyOnDemand"];
/// What makes one.
pub(crate) const MAKE: [&str; 2] = ["kms:CreateKey", "kms:TagResource"];

/// The identity's policy: it makes keys that carry the tenant's tag, and does the rest with
/// those alone.
fn identity(tenant: TenantId, partition: &str, region: &Region) -> Value {
    let region = region.as_str();
    let tenant = tenant.to_string();
    let own = json!({"StringEquals": {format!("aws:ResourceTag/{TENANT_TAG}"): tenant}});
    let made = json!({"StringEquals": {format!("aws:RequestTag/{TENANT_TAG}"): tenant, "aws:RequestedRegion": region}});
    let used: Vec<&str> = USE.into_iter().chain(READ).chain(CHANGE).collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "ClavigerMakesKeys", "Effect": "Allow", "Action": MAKE, "Resource": "*", "Condition": made},
            {"Sid": "ClavigerUsesKeysThatItMade", "Effect": "Allow", "Action": used, "Resource": format!("arn:{partition}:kms:{region}:*:key/*"), "Condition": own},
        ],
    })
}

/// A statement of the policy of a key that is to be adopted.
fn key(tenant: TenantId, principal: &str, proof: Proof) -> Value {
    let asked: Vec<&str> = READ.into_iter().chain(CHANGE).collect();
    let mut used = json!({"Sid": "ClavigerUsesTheKey", "Effect": "Allow", "Principal": {"AWS": principal}, "Action": USE, "Resource": "*"});
    // An RSA key takes no context; one identity for several tenants cannot have such keys.
    match proof {
        Proof::KeyPolicy => {
            used["Condition"] = json!({"StringEquals": {"kms:EncryptionContext:claviger:tenant": tenant.to_string()}});
        }
        Proof::Credential => {
            used["Condition"] = json!({"StringEqualsIfExists": {"kms:EncryptionContext:claviger:tenant": tenant.to_string()}});
        }
    }
    json!([
        used,
        {"Sid": "ClavigerLooksAfterTheKey", "Effect": "Allow", "Principal": {"AWS": principal}, "Action": asked, "Resource": "*"},
    ])
}

/// The trust policy of a role that only the connection's own calls can assume.
fn trust(external_id: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": "ARN-OF-THE-IDENTITY-THAT-ASSUMES-THE-ROLE"}, "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }],
    })
}

/// All of them, with a word before each. `caller` is the ARN of the connection's identity, as
/// STS tells it: of a role, that of its session.
pub(crate) fn printed(tenant: TenantId, region: &Region, caller: Option<&str>, provider: &AwsProvider) -> String {
    let role = provider.role.as_ref().map(|role| role.role_arn.as_str());
    let principal = role.or(caller).unwrap_or("ARN-OF-THE-CONNECTIONS-IDENTITY");
    let partition = principal.split(':').nth(1).unwrap_or("aws");
    let mut text = format!(
        "Policy of the connection's identity, for keys that Claviger makes:\n{:#}\n\
         Statements of the policy of a key of yours that Claviger adopts:\n{:#}\n",
        identity(tenant, partition, region),
        key(tenant, principal, provider.proof)
    );
    if let Some(role) = &provider.role {
        text.push_str(&format!("Trust policy of {}:\n{:#}\n", role.role_arn, trust(&role.external_id)));
    }
    text
}

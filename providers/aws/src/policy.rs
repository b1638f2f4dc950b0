//! The smallest policies that a connection needs, to paste at AWS: one of its identity, and a
//! statement for the policy of a key that is to be adopted.

use claviger_provider::TenantId;
use serde_json::{Value, json};

use crate::credentials::Role;
use crate::lifecycle::TENANT_TAG;
use crate::names::Region;
use crate::ownership::Proof;

/// The actions that use a key.
const USE: [&str; 5] = [
    "kms:Decrypt",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
];
/// The actions that read about a key.
const READ: [&str; 3] = ["kms:DescribeKey", "kms:GetPublicKey", "kms:ListKeyRotations"];
/// The actions that change a key.
const CHANGE: [&str; 3] = ["kms:DisableKey", "kms:EnableKey", "kms:RotateKeyOnDemand"];
/// The actions that create a key.
const CREATE: [&str; 2] = ["kms:CreateKey", "kms:TagResource"];

/// The identity's policy: it creates keys with the tenant's tag, and uses only keys with that tag.
fn identity(tenant: TenantId, partition: &str, region: &Region) -> Value {
    let region = region.as_str();
    let tenant = tenant.to_string();
    let tagged = json!({"StringEquals": {format!("aws:ResourceTag/{TENANT_TAG}"): tenant}});
    let created = json!({"StringEquals": {format!("aws:RequestTag/{TENANT_TAG}"): tenant, "aws:RequestedRegion": region}});
    let actions: Vec<&str> = USE.into_iter().chain(READ).chain(CHANGE).collect();
    json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "ClavigerMakesKeys", "Effect": "Allow", "Action": CREATE, "Resource": "*", "Condition": created},
            {"Sid": "ClavigerFindsKeysThatItMade", "Effect": "Allow", "Action": "kms:ListKeys", "Resource": "*"},
            {"Sid": "ClavigerUsesKeysThatItMade", "Effect": "Allow", "Action": actions, "Resource": format!("arn:{partition}:kms:{region}:*:key/*"), "Condition": tagged},
        ],
    })
}

/// The statements for the policy of a key that is to be adopted.
fn key(tenant: TenantId, principal: &str, proof: Proof) -> Value {
    let others: Vec<&str> = READ.into_iter().chain(CHANGE).collect();
    let mut uses = json!({"Sid": "ClavigerUsesTheKey", "Effect": "Allow", "Principal": {"AWS": principal}, "Action": USE, "Resource": "*"});
    // RSA keys take no context, so a shared identity cannot have them; for the others the
    // condition applies where there is a context.
    match proof {
        Proof::KeyPolicy => {
            uses["Condition"] = json!({"StringEquals": {"kms:EncryptionContext:claviger:tenant": tenant.to_string()}});
        }
        Proof::Credential => {
            uses["Condition"] = json!({"StringEqualsIfExists": {"kms:EncryptionContext:claviger:tenant": tenant.to_string()}});
        }
    }
    json!([
        uses,
        {"Sid": "ClavigerLooksAfterTheKey", "Effect": "Allow", "Principal": {"AWS": principal}, "Action": others, "Resource": "*"},
    ])
}

/// The trust policy of a role that only this connection can assume.
fn trust(external_id: &str) -> Value {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Principal": {"AWS": "ARN-OF-THE-IDENTITY-THAT-ASSUMES-THE-ROLE"}, "Action": "sts:AssumeRole",
            "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
        }],
    })
}

/// All of them, each with a heading. `caller` is the ARN of the connection's identity as STS returns
/// it, which for a role is that of its session.
pub(crate) fn printed(tenant: TenantId, region: &Region, caller: Option<&str>, proof: Proof, role: Option<&Role>) -> String {
    let role_arn = role.map(|role| role.role_arn.as_str());
    let principal = role_arn.or(caller).unwrap_or("ARN-OF-THE-CONNECTIONS-IDENTITY");
    let partition = principal.split(':').nth(1).unwrap_or("aws");
    let mut text = format!(
        "Policy of the connection's identity, for keys that Claviger makes:\n{:#}\n\
         Statements of the policy of a key of yours that Claviger adopts:\n{:#}\n",
        identity(tenant, partition, region),
        key(tenant, principal, proof)
    );
    if let Some(role) = role {
        text.push_str(&format!("Trust policy of {}:\n{:#}\n", role.role_arn, trust(&role.external_id)));
    }
    text
}

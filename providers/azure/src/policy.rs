//! The commands that grant a connection's identity the least permissions at its vault.

use claviger_provider::TenantId;
use serde_json::{Value, json};

use crate::client::Client;
use crate::cloud::Service;
use crate::names::TENANT_TAG;
use crate::wrap_algorithm::AesAlgorithm;

/// The permissions to read keys, which every operation requires.
const READ: [&str; 2] = ["get", "list"];
/// The permissions to change keys.
const CHANGE: [&str; 3] = ["create", "update", "rotate"];

/// The data actions of a role in a Key Vault.
const VAULT: [&str; 6] = [
    "Microsoft.KeyVault/vaults/keys/read",
    "Microsoft.KeyVault/vaults/keys/wrap/action",
    "Microsoft.KeyVault/vaults/keys/unwrap/action",
    "Microsoft.KeyVault/vaults/keys/create/action",
    "Microsoft.KeyVault/vaults/keys/update/action",
    "Microsoft.KeyVault/vaults/keys/rotate/action",
];

/// The data actions of a role in a Managed HSM, without those that wrap.
const HSM: [&str; 4] = [
    "Microsoft.KeyVault/managedHsm/keys/read/action",
    "Microsoft.KeyVault/managedHsm/keys/write/action",
    "Microsoft.KeyVault/managedHsm/keys/create",
    "Microsoft.KeyVault/managedHsm/keys/rotate/action",
];

fn hsm_actions(aes: AesAlgorithm) -> Vec<&'static str> {
    let wraps = [
        "Microsoft.KeyVault/managedHsm/keys/wrap/action",
        "Microsoft.KeyVault/managedHsm/keys/unwrap/action",
    ];
    let encrypts = [
        "Microsoft.KeyVault/managedHsm/keys/encrypt/action",
        "Microsoft.KeyVault/managedHsm/keys/decrypt/action",
    ];
    let more: &[&str] = match aes {
        AesAlgorithm::KeyWrap => &[],
        AesAlgorithm::Gcm => &encrypts,
    };
    HSM.iter().chain(&wraps).chain(more).copied().collect()
}

fn role(actions: &[&str], scope: &str) -> Value {
    json!({
        "Name": "Claviger", "IsCustom": true, "Description": "Wraps and unwraps data keys; creates, rotates, enables and disables keys",
        "Actions": [], "NotActions": [], "DataActions": actions, "NotDataActions": [], "AssignableScopes": [scope],
    })
}

/// The vault's name in commands of the Azure CLI.
fn name(client: &Client) -> &str {
    let host = client.vault.base().strip_prefix("https://").unwrap_or_default();
    host.split(['.', ':', '/']).next().unwrap_or("NAME")
}

/// The commands for roles, access policies and the tag of adopted keys, each with a comment.
pub(crate) fn printed(client: &Client, tenant: TenantId) -> String {
    let name = name(client);
    let assignee = "OBJECT-ID-OF-THE-CONNECTIONS-IDENTITY";
    let grants = match client.vault.service {
        Service::KeyVault => {
            let scope = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP";
            let vault = format!("{scope}/providers/Microsoft.KeyVault/vaults/{name}");
            let permissions: Vec<&str> = READ.into_iter().chain(AesAlgorithm::KeyWrap.permissions()).chain(CHANGE).collect();
            format!(
                "For a vault with role assignments: a custom role, and its assignment for this vault\n{:#}\naz role assignment create --role \
                 Claviger --assignee-object-id {assignee} --scope {vault}\nOr, for adopted keys that Claviger neither rotates nor disables, a role that \
                 is built in\naz role assignment create --role 'Key Vault Crypto Service Encryption User' --assignee-object-id {assignee} --scope \
                 {vault}/keys/KEY\nFor a vault with access policies\naz keyvault set-policy --name {name} --object-id {assignee} --key-permissions {}\n",
                role(&VAULT, scope),
                permissions.join(" ")
            )
        }
        Service::ManagedHsm => format!(
            "A custom role, and its assignment\naz keyvault role definition create --hsm-name {name} --role-definition '{}'\naz keyvault role \
             assignment create --hsm-name {name} --role Claviger --assignee-object-id {assignee} --scope /keys\n{}",
            json!({"roleName": "Claviger", "description": "Wraps and unwraps data keys", "actions": [], "notActions": [],
                   "dataActions": hsm_actions(client.aes), "notDataActions": []}),
            match client.aes {
                AesAlgorithm::KeyWrap => format!(
                    "Or, for adopted keys that Claviger neither rotates nor disables, a role that is built in\naz keyvault role assignment create \
                     --hsm-name {name} --role 'Managed HSM Crypto Service Encryption User' --assignee-object-id {assignee} --scope /keys/KEY\n"
                ),
                AesAlgorithm::Gcm => String::new(),
            }
        ),
    };
    format!(
        "{grants}For a key that Claviger adopts, its tag (the command replaces all tags: include those that the key has)\naz keyvault key \
         set-attributes --id {}keys/KEY --tags {TENANT_TAG}={tenant}\n",
        client.vault.base()
    )
}

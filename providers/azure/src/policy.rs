//! The least that the vault's owner has to grant, to paste.

use claviger_provider::TenantId;
use serde_json::{Value, json};

use crate::cloud::Service;
use crate::lifecycle::TENANT_TAG;
use crate::probe::used;
use crate::provider::AzureProvider;
use crate::settings::Symmetric;

/// What is done with keys, beside wrapping: without the first two nothing works.
const READ: [&str; 2] = ["get", "list"];
const CHANGE: [&str; 3] = ["create", "update", "rotate"];

/// The actions of a role in a Key Vault.
const VAULT: [&str; 6] = [
    "Microsoft.KeyVault/vaults/keys/read",
    "Microsoft.KeyVault/vaults/keys/wrap/action",
    "Microsoft.KeyVault/vaults/keys/unwrap/action",
    "Microsoft.KeyVault/vaults/keys/create/action",
    "Microsoft.KeyVault/vaults/keys/update/action",
    "Microsoft.KeyVault/vaults/keys/rotate/action",
];

/// The actions of a role in a Managed HSM, without those that wrap.
const HSM: [&str; 4] = [
    "Microsoft.KeyVault/managedHsm/keys/read/action",
    "Microsoft.KeyVault/managedHsm/keys/write/action",
    "Microsoft.KeyVault/managedHsm/keys/create",
    "Microsoft.KeyVault/managedHsm/keys/rotate/action",
];

fn hsm_actions(aes: Symmetric) -> Vec<&'static str> {
    let wraps = [
        "Microsoft.KeyVault/managedHsm/keys/wrap/action",
        "Microsoft.KeyVault/managedHsm/keys/unwrap/action",
    ];
    let encrypts = [
        "Microsoft.KeyVault/managedHsm/keys/encrypt/action",
        "Microsoft.KeyVault/managedHsm/keys/decrypt/action",
    ];
    let more: &[&str] = match aes {
        Symmetric::KeyWrap => &[],
        Symmetric::Gcm => &encrypts,
    };
    HSM.iter().chain(&wraps).chain(more).copied().collect()
}

fn role(actions: &[&str], scope: &str) -> Value {
    json!({
        "Name": "Claviger", "IsCustom": true, "Description": "Wraps and unwraps data keys; makes, rotates, enables and disables keys",
        "Actions": [], "NotActions": [], "DataActions": actions, "NotDataActions": [], "AssignableScopes": [scope],
    })
}

/// The name of the vault in Azure's commands.
fn name(provider: &AzureProvider) -> &str {
    let host = provider.vault.base().strip_prefix("https://").unwrap_or_default();
    host.split(['.', ':', '/']).next().unwrap_or("NAME")
}

/// All of it, with a word before each.
pub(crate) fn printed(provider: &AzureProvider, tenant: TenantId) -> String {
    let name = name(provider);
    let who = "OBJECT-ID-OF-THE-CONNECTIONS-IDENTITY";
    let granted = match provider.vault.service {
        Service::KeyVault => {
            let scope = "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP";
            let vault = format!("{scope}/providers/Microsoft.KeyVault/vaults/{name}");
            let permissions: Vec<&str> = READ.into_iter().chain(used(Symmetric::KeyWrap)).chain(CHANGE).collect();
            format!(
                "For a vault with role assignments: a role of its own, and its assignment for this vault\n{:#}\naz role assignment create --role \
                 Claviger --assignee-object-id {who} --scope {vault}\nOr, for adopted keys that Claviger neither rotates nor disables, a role that \
                 Azure has\naz role assignment create --role 'Key Vault Crypto Service Encryption User' --assignee-object-id {who} --scope \
                 {vault}/keys/KEY\nFor a vault with access policies\naz keyvault set-policy --name {name} --object-id {who} --key-permissions {}\n",
                role(&VAULT, scope),
                permissions.join(" ")
            )
        }
        Service::ManagedHsm => format!(
            "A role of its own, and its assignment\naz keyvault role definition create --hsm-name {name} --role-definition '{}'\naz keyvault role \
             assignment create --hsm-name {name} --role Claviger --assignee-object-id {who} --scope /keys\n{}",
            json!({"roleName": "Claviger", "description": "Wraps and unwraps data keys", "actions": [], "notActions": [],
                   "dataActions": hsm_actions(provider.aes), "notDataActions": []}),
            match provider.aes {
                Symmetric::KeyWrap => format!(
                    "Or, for adopted keys that Claviger neither rotates nor disables, a role that the HSM has\naz keyvault role assignment create \
                     --hsm-name {name} --role 'Managed HSM Crypto Service Encryption User' --assignee-object-id {who} --scope /keys/KEY\n"
                ),
                Symmetric::Gcm => String::new(),
            }
        ),
    };
    format!(
        "{granted}For a key of yours that Claviger adopts, its tag (the command sets all tags: name those that the key has)\naz keyvault key \
         set-attributes --id {}keys/KEY --tags {TENANT_TAG}={tenant}\n",
        provider.vault.base()
    )
}

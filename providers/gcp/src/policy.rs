//! The permissions that the gateway uses, and the commands that grant them.

use claviger_provider::{KeySpec, TenantId};

use crate::keys::TENANT_LABEL;
use crate::names::KeyRing;

/// A permission of Google, and the gateway's operation that requires it.
pub(crate) struct Right {
    pub(crate) operation: &'static str,
    pub(crate) permission: &'static str,
    keys: Keys,
}

/// The keys that a permission is used with.
#[derive(Clone, Copy)]
enum Keys {
    All,
    Symmetric,
    Asymmetric,
}

const fn right(operation: &'static str, permission: &'static str, keys: Keys) -> Right {
    Right {
        operation,
        permission,
        keys,
    }
}

impl Right {
    /// Whether it is used with keys of this specification.
    pub(crate) const fn applies_to(&self, spec: KeySpec) -> bool {
        match (self.keys, spec) {
            (Keys::All, _) | (Keys::Symmetric, KeySpec::Aes256) | (Keys::Asymmetric, KeySpec::Rsa3072 | KeySpec::Rsa4096) => true,
            (Keys::Symmetric, KeySpec::Rsa3072 | KeySpec::Rsa4096) | (Keys::Asymmetric, KeySpec::Aes256) => false,
        }
    }
}

/// The permissions on keys.
pub(crate) const BY_KEY: &[Right] = &[
    right("describe", "cloudkms.cryptoKeys.get", Keys::All),
    right("describe", "cloudkms.cryptoKeyVersions.list", Keys::All),
    right("wrap_key", "cloudkms.cryptoKeyVersions.useToEncrypt", Keys::Symmetric),
    right("wrap_key", "cloudkms.cryptoKeyVersions.viewPublicKey", Keys::Asymmetric),
    right("unwrap_key", "cloudkms.cryptoKeyVersions.useToDecrypt", Keys::All),
    right("rotate", "cloudkms.cryptoKeyVersions.create", Keys::All),
    right("rotate", "cloudkms.cryptoKeyVersions.get", Keys::All),
    right("rotate", "cloudkms.cryptoKeys.update", Keys::Symmetric),
    right("set_state", "cloudkms.cryptoKeyVersions.update", Keys::All),
];

/// The permissions on the key ring.
pub(crate) const BY_RING: &[Right] = &[right("create_key", "cloudkms.cryptoKeys.create", Keys::All)];

/// The permission for random bytes of the HSM, which is granted on the project.
pub(crate) const RANDOM: &str = "cloudkms.locations.generateRandomBytes";

/// The commands for the role, its binding and the label of adopted keys, each with a comment.
/// `random` adds the role for random bytes of the HSM.
pub(crate) fn printed(tenant: TenantId, ring: &KeyRing, random: bool) -> String {
    let (project, location, keyring) = ring.parts();
    let mut permissions: Vec<&str> = BY_KEY.iter().chain(BY_RING).map(|right| right.permission).collect();
    permissions.sort_unstable();
    let listed: String = permissions.iter().map(|permission| format!("- {permission}\n")).collect();
    let mut text = format!(
        "A role with the least permissions, and its binding to the key ring alone (MEMBER is the connection's identity, such as \
         serviceAccount:NAME@PROJECT.iam.gserviceaccount.com):\n\
         cat > claviger-role.yaml <<'YAML'\n\
         title: Claviger\n\
         description: Wraps and unwraps data keys, creates and rotates keys\n\
         stage: GA\n\
         includedPermissions:\n{listed}YAML\n\
         gcloud iam roles create claviger --project {project} --file claviger-role.yaml\n\
         gcloud kms keyrings add-iam-policy-binding {keyring} --project {project} --location {location} \\\n    \
         --role projects/{project}/roles/claviger --member MEMBER\n\
         The label of a key that Claviger adopts:\n\
         gcloud kms keys update KEY --project {project} --location {location} --keyring {keyring} --update-labels {TENANT_LABEL}={tenant}\n"
    );
    if random {
        text.push_str(&format!(
            "Random bytes of the HSM are the project's and not the key ring's: a role with {RANDOM} only, bound to the project:\n\
             gcloud iam roles create clavigerRandom --project {project} --title 'Claviger random bytes' --permissions {RANDOM}\n\
             gcloud projects add-iam-policy-binding {project} --role projects/{project}/roles/clavigerRandom --member MEMBER\n"
        ));
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]
mod tests {
    use claviger_provider::TenantId;

    use super::printed;
    use crate::names::KeyRing;

    #[test]
    fn the_role_has_each_permission_once_and_no_wildcard() {
        let ring = KeyRing::parse("projects/p/locations/global/keyRings/r").unwrap();
        let text = printed(TenantId::from_bytes([7; 16]), &ring, false);
        let listed: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("- ")).collect();
        assert!(
            listed.len() >= 8 && listed.iter().all(|permission| permission.starts_with("cloudkms.")),
            "{text}"
        );
        assert!(
            !text.contains('*') && !text.contains("destroy") && !text.contains("setIamPolicy"),
            "{text}"
        );
        let mut once = listed.clone();
        once.dedup();
        assert_eq!(once, listed);
        assert!(
            text.contains(&format!("--update-labels claviger-tenant={}", "07".repeat(16))),
            "{text}"
        );
        assert!(printed(TenantId::from_bytes([7; 16]), &ring, true).contains("generateRandomBytes"));
    }
}

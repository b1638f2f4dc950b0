//! The least that Google has to grant, to paste: a role of one's own, whom to give it to, and
//! the label of a key that is to be adopted.

use claviger_provider::TenantId;

use crate::keys::TENANT_LABEL;
use crate::names::KeyRing;
use crate::probe::{BY_KEY, BY_RING, Right};

/// All of them, with a word before each, as lines for a shell with Google's tool. `random` says
/// that data keys come from the HSM's generator.
pub(crate) fn printed(tenant: TenantId, ring: &KeyRing, random: bool) -> String {
    let (project, location, keyring) = ring.parts();
    let mut permissions: Vec<&str> = BY_KEY.iter().chain(BY_RING).map(Right::permission).collect();
    permissions.sort_unstable();
    let listed: String = permissions.iter().map(|permission| format!("- {permission}\n")).collect();
    let mut text = format!(
        "A role with the least permissions, and its binding to the key ring alone (MEMBER is the connection's identity, such as \
         serviceAccount:NAME@PROJECT.iam.gserviceaccount.com):\n\
         cat > claviger-role.yaml <<'YAML'\n\
         title: Claviger\n\
         description: Wraps and unwraps data keys, makes and rotates keys\n\
         stage: GA\n\
         includedPermissions:\n{listed}YAML\n\
         gcloud iam roles create claviger --project {project} --file claviger-role.yaml\n\
         gcloud kms keyrings add-iam-policy-binding {keyring} --project {project} --location {location} \\\n    \
         --role projects/{project}/roles/claviger --member MEMBER\n\
         The label of a key of yours that Claviger adopts:\n\
         gcloud kms keys update KEY --project {project} --location {location} --keyring {keyring} --update-labels {TENANT_LABEL}={tenant}\n"
    );
    if random {
        text.push_str(&format!(
            "Random bytes of the HSM are the project's and not the key ring's: a role of {} alone, bound to the project:\n\
             gcloud iam roles create clavigerRandom --project {project} --title 'Claviger random bytes' --permissions {}\n\
             gcloud projects add-iam-policy-binding {project} --role projects/{project}/roles/clavigerRandom --member MEMBER\n",
            Right::RANDOM,
            Right::RANDOM
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

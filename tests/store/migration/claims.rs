//! The claims of provider keys that a migration makes: whose they are, as each provider says of its settings.

use std::time::Duration;

use claviger::store::sqlite::SqliteStore;
use claviger::store::{Reads, Store};
use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{ClaimSpan, Factory, Id, SettingsOrigin};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection as _, query, query_scalar};

use super::{copy, root_key};
use crate::support::{cases, first, node};

cases! { alone:
    claims_are_for_the_installation_where_the_provider_says_so,
}

/// The factories of the providers that lend identities, by their number in the store.
#[cfg(all(feature = "aws", feature = "gcp", feature = "azure", feature = "vault"))]
fn factories() -> Vec<(i64, Box<dyn Factory>)> {
    let egress = || Egress::new(EgressPolicy::everywhere());
    vec![
        (
            2,
            Box::new(claviger_provider_aws::AwsFactory::new(
                claviger_provider_aws::Endpoints::default(),
                egress(),
            )),
        ),
        (
            3,
            Box::new(claviger_provider_gcp::GcpFactory::new(
                claviger_provider_gcp::Endpoints::default(),
                Duration::from_secs(3),
            )),
        ),
        (
            4,
            Box::new(claviger_provider_azure::AzureFactory::new(
                claviger_provider_azure::Installation::default(),
                egress(),
            )),
        ),
        (5, Box::new(claviger_provider_vault::VaultFactory::new(egress()))),
    ]
}
#[cfg(not(all(feature = "aws", feature = "gcp", feature = "azure", feature = "vault")))]
fn factories() -> Vec<(i64, Box<dyn Factory>)> {
    Vec::new()
}

async fn claims_are_for_the_installation_where_the_provider_says_so() {
    use SettingsOrigin::{Operator, Tenant};
    let role = r#""role_arn":"arn:aws:iam::111122223333:role/r""#;
    let uuid = "00000000-0000-0000-0000-000000000001";
    let settings: Vec<(i64, SettingsOrigin, String)> = vec![
        (2, Tenant, r#"{"region":"eu-central-1","auth":{"static":{}}}"#.into()),
        (2, Operator, r#"{"region":"eu-central-1","auth":{"static":{}}}"#.into()),
        (2, Operator, r#"{"region":"eu-central-1","auth":{"ambient":{}}}"#.into()),
        (2, Operator, r#"{"region":"eu-central-1","auth":{"profile":{"name":"p"}}}"#.into()),
        (
            2,
            Operator,
            format!(r#"{{"region":"eu-central-1","auth":{{"assume_role":{{{role},"base":{{"static":{{}}}}}}}}}}"#),
        ),
        (
            2,
            Operator,
            format!(r#"{{"region":"eu-central-1","auth":{{"assume_role":{{{role},"base":{{"ambient":{{}}}}}}}},"proxy":"http://p:1"}}"#),
        ),
        (
            2,
            Operator,
            format!(r#"{{"region":"eu-central-1","auth":{{"web_identity":{{{role},"token_file":"/t"}}}}}}"#),
        ),
        (
            3,
            Tenant,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"token":{}}}"#.into(),
        ),
        (
            3,
            Operator,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"service_account_key":{"client_email":"e"}}}"#.into(),
        ),
        (
            3,
            Operator,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"ambient":{}}}"#.into(),
        ),
        (
            3,
            Tenant,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"workload_identity":{"audience":"a"}}}"#.into(),
        ),
        (
            3,
            Operator,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"workload_identity":{"audience":"a","token_file":"/t"}}}"#.into(),
        ),
        (
            3,
            Operator,
            r#"{"key_ring":"projects/p/locations/l/keyRings/r","auth":{"impersonate":{"service_account":"s","base":{"ambient":{}}}}}"#
                .into(),
        ),
        (4, Tenant, r#"{"vault":"https://v.vault.azure.net/","auth":{"static":{}}}"#.into()),
        (
            4,
            Tenant,
            format!(r#"{{"vault":"https://v.vault.azure.net/","auth":{{"application":{{"directory":"{uuid}"}}}}}}"#),
        ),
        (
            4,
            Tenant,
            format!(r#"{{"vault":"https://v.vault.azure.net/","auth":{{"application":{{"directory":"{uuid}"}}}},"ca":"PEM"}}"#),
        ),
        (
            4,
            Operator,
            format!(r#"{{"vault":"https://v.vault.azure.net/","auth":{{"application":{{"directory":"{uuid}"}}}},"ca":"PEM"}}"#),
        ),
        (
            4,
            Operator,
            r#"{"vault":"https://v.vault.azure.net/","auth":{"managed_identity":{}}}"#.into(),
        ),
        (
            4,
            Operator,
            format!(r#"{{"vault":"https://v.vault.azure.net/","auth":{{"client_secret":{{"directory":"{uuid}","client_id":"{uuid}"}}}}}}"#),
        ),
        (
            5,
            Tenant,
            r#"{"address":"https://v:8200/","mount":"transit","auth":{"token":{}}}"#.into(),
        ),
        (
            5,
            Operator,
            r#"{"address":"https://v:8200/","mount":"transit","auth":{"token":{}}}"#.into(),
        ),
    ];
    let factories = factories();
    let mut wider = 0;
    for (provider, origin, settings) in settings {
        let Some((_, factory)) = factories.iter().find(|(number, _)| *number == provider) else {
            continue;
        };
        let expected = factory.claims(&settings, origin);
        let folder = tempfile::tempdir().unwrap();
        let database = copy(folder.path());
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        let id: Vec<u8> = query_scalar("SELECT connection FROM keys WHERE detached = 0 LIMIT 1")
            .fetch_one(&mut raw)
            .await
            .unwrap();
        query("UPDATE connections SET provider = ?1, settings = ?2, managed_by = ?3 WHERE id = ?4")
            .bind(provider)
            .bind(&settings)
            .bind(matches!(origin, Operator).then_some("config"))
            .bind(&id)
            .execute(&mut raw)
            .await
            .unwrap();
        let keys: i64 = query_scalar("SELECT count(*) FROM keys WHERE detached = 0 AND connection = ?1")
            .bind(&id)
            .fetch_one(&mut raw)
            .await
            .unwrap();
        raw.close().await.unwrap();

        let store = SqliteStore::open(&database, root_key(folder.path()), &node()).await.unwrap();
        let mut found = Vec::new();
        for tenant in store.tenants(&first(100)).await.unwrap() {
            found.extend(store.connections(tenant.id, &first(100)).await.unwrap());
        }
        let row = found.into_iter().find(|row| row.id.bytes().as_slice() == id).unwrap();
        assert_eq!(row.claims, expected, "{settings} {origin:?}");
        Store::close(&store).await;
        let mut raw = SqliteConnectOptions::new().filename(&database).connect().await.unwrap();
        let claimed: Vec<String> = query_scalar("SELECT service FROM claims WHERE span = zeroblob(16)")
            .fetch_all(&mut raw)
            .await
            .unwrap();
        let service = match expected {
            ClaimSpan::Tenant => None,
            ClaimSpan::Installation { service } => Some(service),
        };
        wider += usize::from(service.is_some());
        let expected = service
            .map(|service| vec![service; usize::try_from(keys).unwrap()])
            .unwrap_or_default();
        assert_eq!(claimed, expected, "{settings}");
        raw.close().await.unwrap();
    }
    assert!(factories.is_empty() || wider == 11, "{wider}");
}

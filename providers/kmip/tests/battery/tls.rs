//! Certificates, and the check.

use claviger_provider::{ErrorKind, Finding, Provider};
use serde_json::{Value, json};

use crate::server::{Kind, Server, cx, new_key, primary};

pub async fn its_own_authority_is_trusted_and_no_other(server: &Server, settings: &Value) {
    for ca in [json!(null), json!(server.file("another.pem"))] {
        let mut settings = settings.clone();
        settings["ca"] = ca;
        let error = server.connect(&settings).create_key(&cx(), &new_key(None)).await.unwrap_err();
        assert!(
            error.kind == ErrorKind::Misconfigured && error.advice.unwrap().contains("`ca`"),
            "{error}"
        );
    }
}

pub async fn a_client_of_another_authority_is_denied(server: &Server, settings: &Value) {
    let provider = server.connect_as("stranger", settings);
    let error = provider.create_key(&cx(), &new_key(None)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Misconfigured, "{error}");
    let probe = provider.probe(&cx(), &[]).await.unwrap();
    let problem = probe.problem.unwrap();
    assert!(problem.advice.unwrap().contains("client certificate"), "{problem}");
}

pub async fn a_check_describes_the_server(server: &Server, settings: &Value) {
    let provider = server.connect(settings);
    let kek = primary(&provider.create_key(&cx(), &new_key(None)).await.unwrap());
    let probe = provider.probe(&cx(), &[kek]).await.unwrap();
    let expected = match (server.kind, settings["protocol_version"].as_str()) {
        (Kind::PyKmip, Some("1.4")) => "KMIP 1.4: PyKMIP 0.11.0 Software Server",
        (Kind::PyKmip, _) => "KMIP 2.0: PyKMIP 0.11.0 Software Server",
        (Kind::KmipGo, _) => "KMIP 1.4: kmip-go test server",
    };
    assert_eq!(probe.detail, expected);
    assert!(probe.problem.is_none());
    let canary = probe.rights.iter().find(|right| right.operation == "canary").unwrap();
    assert_eq!(canary.finding, Finding::Granted);
    assert!(
        probe.rights.iter().all(|right| right.finding != Finding::Denied),
        "{:?}",
        probe.rights
    );
}

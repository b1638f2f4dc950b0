//! The findings of a check, and that it changes nothing.

use claviger_provider::egress::{Egress, EgressPolicy};
use claviger_provider::{Finding, KeySpec, Probe, Provider, RightReport, SettingsOrigin};
use claviger_provider_aws::Endpoints;
use serde_json::{Value, json};
use wiremock::{MockServer, Request, ResponseTemplate};

use crate::fixture::{
    ARN, EXTERNAL_ID, REGION, ROLE, TENANT, access_key, aes, answer, calls, connect, cx, describe_key, kek, kms, provider, refusal, role,
    session, sts, sts_refusal,
};

async fn identity(server: &MockServer) {
    let body = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::111122223333:user/claviger</Arn>\
                <UserId>AIDA</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    sts("GetCallerIdentity")
        .respond_with(ResponseTemplate::new(200).set_body_raw(body, "text/xml"))
        .mount(server)
        .await;
}

/// KMS with dry runs. Everything is allowed except the listed operations.
async fn real(denied: &[&str]) -> MockServer {
    let server = MockServer::builder().start().await;
    identity(&server).await;
    for operation in denied {
        kms(operation)
            .respond_with(refusal("AccessDeniedException"))
            .with_priority(1)
            .mount(&server)
            .await;
    }
    let dry = |request: &Request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        match body["DryRun"] == json!(true) {
            true => refusal("DryRunOperationException"),
            false => ResponseTemplate::new(500),
        }
    };
    kms("GenerateDataKey").respond_with(dry).mount(&server).await;
    kms("ReEncrypt").respond_with(dry).mount(&server).await;
    describe_key(&server).await;
    kms("ListKeyRotations")
        .respond_with(answer(json!({"Rotations": [], "Truncated": false})))
        .mount(&server)
        .await;
    kms("ListKeys")
        .respond_with(answer(json!({"Keys": [], "Truncated": false})))
        .mount(&server)
        .await;
    let blob = |from: &'static str, to: &'static str| {
        move |request: &Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            answer(json!({"KeyId": ARN, to: body[from]}))
        }
    };
    kms("Encrypt")
        .respond_with(blob("Plaintext", "CiphertextBlob"))
        .mount(&server)
        .await;
    kms("Decrypt")
        .respond_with(blob("CiphertextBlob", "Plaintext"))
        .mount(&server)
        .await;
    server
}

fn found<'p>(probe: &'p Probe, operation: &str) -> &'p RightReport {
    probe.rights.iter().find(|right| right.operation == operation).unwrap()
}

#[tokio::test]
async fn what_is_granted_is_found_without_acting() {
    let server = real(&[]).await;
    let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
    assert_eq!(probe.detail, "AWS KMS in eu-central-1 as arn:aws:iam::111122223333:user/claviger");
    for operation in [
        "describe",
        "wrap_key",
        "unwrap_key",
        "generate_data_key",
        "rewrap_key",
        "list_rotations",
    ] {
        let right = found(&probe, operation);
        assert_eq!(right.finding, Finding::Granted, "{operation}: {right:?}");
    }
    for operation in ["create_key", "rotate", "enable_key", "disable_key"] {
        let right = found(&probe, operation);
        assert!(right.finding == Finding::NotTestable && !right.how.is_empty(), "{right:?}");
    }
    for operation in [
        "CreateKey",
        "RotateKeyOnDemand",
        "EnableKey",
        "DisableKey",
        "ScheduleKeyDeletion",
        "TagResource",
    ] {
        assert!(calls(&server, operation).await.is_empty(), "{operation}");
    }
    assert_eq!(calls(&server, "GenerateDataKey").await[0]["DryRun"], true);
    assert_eq!(calls(&server, "ReEncrypt").await[0]["DryRun"], true);
}

#[tokio::test]
async fn what_is_refused_is_named_with_the_key() {
    for (denied, operation, action) in [
        ("DescribeKey", "describe", "kms:DescribeKey"),
        ("Encrypt", "wrap_key", "kms:Encrypt"),
        ("Decrypt", "unwrap_key", "kms:Decrypt"),
        ("GenerateDataKey", "generate_data_key", "kms:GenerateDataKey"),
        ("ReEncrypt", "rewrap_key", "kms:ReEncryptFrom"),
        ("ListKeyRotations", "list_rotations", "kms:ListKeyRotations"),
        ("ListKeys", "find_keys", "kms:ListKeys"),
    ] {
        let server = real(&[denied]).await;
        let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
        let right = found(&probe, operation);
        assert_eq!(right.finding, Finding::Denied, "{denied}");
        let advice = right.advice.as_ref().unwrap();
        assert!(advice.contains(action), "{denied}: {advice}");
        assert!(denied == "ListKeys" || advice.contains(ARN), "{denied}: {advice}");
        assert!(right.how.contains("AccessDeniedException"), "{right:?}");
        let others = probe.rights.iter().filter(|right| right.finding == Finding::Denied);
        assert_eq!(others.count(), 1, "{denied}: {:?}", probe.rights);
    }
}

#[tokio::test]
async fn an_rsa_key_is_tried_in_its_own_way() {
    let server = MockServer::builder().start().await;
    identity(&server).await;
    describe_key(&server).await;
    kms("GetPublicKey")
        .respond_with(refusal("AccessDeniedException"))
        .mount(&server)
        .await;
    kms("Decrypt")
        .respond_with(refusal("InvalidCiphertextException"))
        .mount(&server)
        .await;
    let rsa = kek(ARN, KeySpec::Rsa3072);
    let probe = connect(&server, access_key()).await.probe(&cx(), &[rsa]).await.unwrap();
    assert_eq!(found(&probe, "wrap_key").finding, Finding::Denied);
    assert!(found(&probe, "wrap_key").advice.as_ref().unwrap().contains("kms:GetPublicKey"));
    assert_eq!(found(&probe, "unwrap_key").finding, Finding::Granted);
    assert!(probe.rights.iter().all(|right| right.operation != "generate_data_key"));
}

#[tokio::test]
async fn a_key_that_is_off_is_not_taken_for_a_missing_right() {
    let server = real(&[]).await;
    for operation in ["Encrypt", "GenerateDataKey"] {
        kms(operation)
            .respond_with(refusal("DisabledException"))
            .with_priority(1)
            .mount(&server)
            .await;
    }
    let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
    assert_eq!(found(&probe, "wrap_key").finding, Finding::NotTestable);
    assert_eq!(found(&probe, "generate_data_key").finding, Finding::NotTestable);
}

#[tokio::test]
async fn without_keys_a_check_says_so() {
    let server = real(&[]).await;
    let probe = connect(&server, access_key()).await.probe(&cx(), &[]).await.unwrap();
    for operation in ["identity", "find_keys"] {
        assert_eq!(found(&probe, operation).finding, Finding::Granted);
    }
    let of_keys = probe
        .rights
        .iter()
        .filter(|right| !["identity", "find_keys"].contains(&right.operation));
    assert!(of_keys.clone().count() > 5);
    for right in of_keys {
        assert!(right.finding == Finding::NotTestable && !right.how.is_empty(), "{right:?}");
    }
    assert!(calls(&server, "Encrypt").await.is_empty());
}

#[tokio::test]
async fn an_identity_that_is_none_fails_the_check() {
    let server = MockServer::builder().start().await;
    sts("GetCallerIdentity")
        .respond_with(sts_refusal("InvalidClientTokenId"))
        .mount(&server)
        .await;
    let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
    assert!(probe.policy.is_some());
    let error = probe.problem.unwrap();
    assert!(
        error.kind == claviger_provider::ErrorKind::ProviderDenied && error.advice.is_some(),
        "{error}"
    );
}

#[tokio::test]
async fn a_role_must_demand_the_external_id() {
    let with = |request: &Request| String::from_utf8_lossy(&request.body).contains(&format!("ExternalId={EXTERNAL_ID}"));
    for demanding in [true, false] {
        let server = real(&[]).await;
        wiremock::Mock::given(with)
            .respond_with(session("ONE"))
            .with_priority(1)
            .mount(&server)
            .await;
        let without = if demanding {
            sts_refusal("AccessDenied")
        } else {
            session("ANYONE")
        };
        sts("AssumeRole").respond_with(without).mount(&server).await;
        let probe = connect(&server, role()).await.probe(&cx(), &[aes()]).await.unwrap();
        let right = found(&probe, "external_id");
        let expected = if demanding { Finding::Granted } else { Finding::Excessive };
        assert_eq!((right.finding, right.advice.is_some()), (expected, !demanding), "{right:?}");
        assert!(probe.policy.unwrap().contains(EXTERNAL_ID));
    }
}

#[tokio::test]
async fn an_sts_that_is_away_or_another_service_spoils_nothing() {
    let page = || ResponseTemplate::new(200).set_body_raw("<html>welcome</html>", "text/html");
    let refused = || ResponseTemplate::new(403).set_body_raw("<html>no</html>", "text/html");
    for answers in [page(), refused(), ResponseTemplate::new(503)] {
        let server = real(&[]).await;
        sts("GetCallerIdentity").respond_with(answers).with_priority(1).mount(&server).await;
        let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
        assert!(probe.problem.is_none(), "{:?}", probe.problem);
        assert_eq!(found(&probe, "identity").finding, Finding::Failed);
        for operation in ["describe", "wrap_key", "unwrap_key", "find_keys"] {
            assert_eq!(found(&probe, operation).finding, Finding::Granted, "{operation}");
        }
        assert!(probe.policy.unwrap().contains("ARN-OF-THE-CONNECTIONS-IDENTITY"));
    }
}

#[tokio::test]
async fn an_sts_that_is_not_reached_spoils_nothing() {
    let server = real(&[]).await;
    let endpoints = Endpoints {
        kms: Some(server.uri()),
        sts: Some("http://127.0.0.1:1".to_owned()),
    };
    let settings = json!({"region": REGION, "auth": access_key()});
    let egress = Egress::new(EgressPolicy::default());
    let provider = provider(endpoints, egress, SettingsOrigin::Operator, &settings).await.unwrap();
    let probe = provider.probe(&cx(), &[aes()]).await.unwrap();
    assert!(probe.problem.is_none(), "{:?}", probe.problem);
    assert_eq!(found(&probe, "identity").finding, Finding::Failed);
    assert_eq!(found(&probe, "wrap_key").finding, Finding::Granted);
}

#[tokio::test]
async fn a_call_that_fails_or_hangs_takes_nothing_from_the_others() {
    let hangs = ResponseTemplate::new(200).set_delay(std::time::Duration::from_secs(60));
    for (answers, says) in [(ResponseTemplate::new(500), "500"), (hangs, "no response in time")] {
        let server = real(&[]).await;
        kms("DescribeKey").respond_with(answers).with_priority(1).mount(&server).await;
        let probe = connect(&server, access_key()).await.probe(&cx(), &[aes()]).await.unwrap();
        assert!(probe.problem.is_none() && probe.policy.is_some());
        let right = found(&probe, "describe");
        assert!(right.finding == Finding::Failed && right.how.contains(says), "{right:?}");
        for operation in [
            "identity",
            "wrap_key",
            "unwrap_key",
            "generate_data_key",
            "rewrap_key",
            "list_rotations",
        ] {
            assert_eq!(found(&probe, operation).finding, Finding::Granted, "{operation}");
        }
    }
}

/// Every action of KMS and STS that a policy prints. A misspelt one would grant nothing.
const ACTIONS: [&str; 15] = [
    "kms:CreateKey",
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:DisableKey",
    "kms:EnableKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GetPublicKey",
    "kms:ListKeyRotations",
    "kms:ListKeys",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:RotateKeyOnDemand",
    "kms:TagResource",
    "sts:AssumeRole",
];

/// AWS's policy simulator is not available here, so only the form of the policies is checked.
#[tokio::test]
async fn the_printed_policies_are_sound() {
    let server = real(&[]).await;
    sts("AssumeRole").respond_with(session("ONE")).mount(&server).await;
    let probe = connect(&server, role()).await.probe(&cx(), &[aes()]).await.unwrap();
    let text = probe.policy.unwrap();
    let mut documents = Vec::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find(":\n").map(|at| at + 2) {
        let mut reader = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>();
        documents.push(reader.next().unwrap().unwrap());
        rest = &rest[at + reader.byte_offset()..];
    }
    assert_eq!(documents.len(), 3, "{text}");
    let mut actions = Vec::new();
    for document in &documents {
        let statements = document.get("Statement").unwrap_or(document).as_array().unwrap();
        for statement in statements {
            assert_eq!(statement["Effect"], "Allow");
            match &statement["Action"] {
                Value::String(action) => actions.push(action.clone()),
                list => actions.extend(list.as_array().unwrap().iter().map(|action| action.as_str().unwrap().to_owned())),
            }
            // ListKeys takes no resource and no condition (Service Authorization Reference, AWS KMS), and tells ids only.
            let limited =
                statement.get("Condition").is_some() || statement.get("Principal").is_some() || statement["Action"] == "kms:ListKeys";
            assert!(limited, "anybody, anything: {statement}");
        }
    }
    actions.sort_unstable();
    actions.dedup();
    assert_eq!(actions, ACTIONS);
    // The policy names the role and not its session.
    assert!(text.contains(&format!("\"AWS\": \"{ROLE}\"")));
    assert!(text.contains(&format!("\"aws:ResourceTag/claviger:tenant\": \"{}\"", TENANT)));
}

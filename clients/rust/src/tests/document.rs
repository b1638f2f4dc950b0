//! The client does what openapi/claviger.json says: every operation, parameter, member, word and error code.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use percent_encoding::percent_decode_str;
use serde_json::{Map, json};

use super::*;
use crate::call::Pending;
use crate::encode::Encode;
use crate::models::*;
use crate::requests::CreateConnection;
use crate::settings::*;

// The client sets these for all calls, and the stream of items the last one.
const OF_THE_CLIENT: [&str; 4] = ["Claviger-Tenant", "Claviger-Timeout", "Claviger-Justification", "page_token"];

fn document() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../openapi/claviger.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn resolved<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    match schema["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    }
}

fn members(value: &Value) -> BTreeSet<&str> {
    value.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

const CONTEXT: [(&str, &str); 1] = [("a", "b")];

fn cache() -> CacheRules {
    let second = Duration::from_secs(1);
    CacheRules::default().enabled(true).max_age(second).max_idle(second).max_uses(1)
}

fn timeouts() -> TimeoutRules {
    TimeoutRules::default().attempt(Duration::from_secs(1))
}

/// Each operation with every argument, and what it printed of its result.
fn calls() -> BTreeMap<&'static str, fn(Client) -> Pending<String>> {
    macro_rules! calls {
        ($($id:literal: |$client:ident| $call:expr;)*) => {
            BTreeMap::from([$(($id, (|$client: Client| Box::pin(async move { Ok(format!("{:?}", $call)) }) as Pending<String>) as fn(Client) -> Pending<String>)),*])
        };
    }
    calls! {
        "applyDeclared": |c| c.apply_declared().await?;
        "batchGenerateDataKeys": |c| c.batch_generate_data_keys([GenerateItem::new("k").bytes(16).context(CONTEXT).plaintext(false)]).await?;
        "batchRewrap": |c| c.batch_rewrap([RewrapItem::new("k", "w").context(CONTEXT).to("t")]).await?;
        "batchUnwrap": |c| c.batch_unwrap([UnwrapItem::new("w").key("k").context(CONTEXT)]).await?;
        "batchWrap": |c| c.batch_wrap([WrapItem::new("k", [1]).context(CONTEXT)]).await?;
        "checkConnection": |c| c.check_connection("given-connection").await?;
        "createConnection": |c| c.create_connection("c", LocalSettings::default()).labels(CONTEXT).timeouts(timeouts()).await?;
        "createKey": |c| c.create_key("k", "c").cache(cache()).id("i").labels(CONTEXT).provider_key("p").spec(Spec::Aes256).await?;
        "createPrincipal": |c| c.create_principal("p").kind(PrincipalKind::Person).await?;
        "createTenant": |c| c.create_tenant("t").id("i").await?;
        "createToken": |c| c.create_token("given-principal", [Operation::Unwrap]).keys(["k"]).expires_in(Duration::from_secs(1)).kind(TokenKind::Standing).await?;
        "deleteConnection": |c| c.delete_connection("given-connection").await?;
        "deleteKey": |c| c.delete_key("given-key").await?;
        "deletePrincipal": |c| c.delete_principal("given-principal").await?;
        "deleteToken": |c| c.delete_token("given-principal", "given-token").await?;
        "disableKey": |c| c.disable_key("given-key").at_provider(true).await?;
        "enableKey": |c| c.enable_key("given-key").at_provider(true).await?;
        "generateDataKey": |c| c.generate_data_key("given-key").bytes(64).context(CONTEXT).plaintext(true).await?;
        "getConnection": |c| c.get_connection("given-connection").await?;
        "getConnectionCapabilities": |c| c.get_connection_capabilities("given-connection").await?;
        "getHealth": |c| c.get_health().await?;
        "getKey": |c| c.get_key("given-key").await?;
        "getMetrics": |c| c.get_metrics().await?;
        "getOpenapi": |c| c.get_openapi().await?;
        "getPrincipal": |c| c.get_principal("given-principal").await?;
        "getReadiness": |c| c.get_readiness().await?;
        "getTenant": |c| c.get_tenant("given-tenant").await?;
        "inspect": |c| c.inspect("w").context(CONTEXT).await?;
        "listConnections": |c| c.list_connections().page_size(1).items().next().await.unwrap()?;
        "listKeyVersions": |c| c.list_key_versions("given-key").page_size(1).items().next().await.unwrap()?;
        "listKeys": |c| c.list_keys().connection("c").state(KeyStateFilter::Detached).label("a=b").page_size(1).items().next().await.unwrap()?;
        "listPrincipals": |c| c.list_principals().page_size(1).items().next().await.unwrap()?;
        "listTenants": |c| c.list_tenants().page_size(1).items().next().await.unwrap()?;
        "listTokens": |c| c.list_tokens("given-principal").page_size(1).items().next().await.unwrap()?;
        "planDeclared": |c| c.plan_declared().await?;
        "releaseDeclared": |c| c.release_declared(ReleasableKind::Key, "t", "n").await?;
        "restoreConnection": |c| c.restore_connection("given-connection").idempotency_key("k").await?;
        "resumeTenant": |c| c.resume_tenant("given-tenant").idempotency_key("k").await?;
        "rewrap": |c| c.rewrap("given-key", "w").context(CONTEXT).to("t").await?;
        "rotateKey": |c| c.rotate_key("given-key").connection("c").provider_key("p").spec(Spec::Rsa3072).await?;
        "severConnection": |c| c.sever_connection("given-connection").await?;
        "suspendTenant": |c| c.suspend_tenant("given-tenant").await?;
        "unwrap": |c| c.unwrap("w").context(CONTEXT).await?;
        "unwrapWithKey": |c| c.unwrap_with_key("given-key", "w").context(CONTEXT).await?;
        "updateConnection": |c| c.update_connection("given-connection", "*").labels(CONTEXT).secrets(json!({})).settings(NetworkSettings::default().ca("c").proxy("p").address("a")).timeouts(timeouts()).await?;
        "updateKey": |c| c.update_key("given-key", "*").name("n").labels(CONTEXT).cache(cache()).allow_export(true).await?;
        "whoAmI": |c| c.who_am_i().await?;
        "wrap": |c| c.wrap("given-key", [1]).context(CONTEXT).await?;
    }
}

/// The document's example of a successful response.
fn example(document: &Value, operation: &Value) -> Outcome {
    let mut responses = operation["responses"].as_object().unwrap().iter();
    let (status, response) = responses.find(|(status, _)| status.starts_with('2')).unwrap();
    let status = status.parse().unwrap();
    let Some((kind, media)) = response["content"].as_object().and_then(|content| content.iter().next()) else {
        return responds(status, "text/plain", "", &[]);
    };
    let schema = resolved(document, &media["schema"]);
    let example = [&media["example"], &schema["example"], &schema["examples"][0]]
        .into_iter()
        .find(|one| !one.is_null());
    let example = example.cloned().unwrap_or_else(|| json!({}));
    match kind.as_str() {
        "text/plain" => responds(status, "text/plain; version=0.0.4", example.as_str().unwrap_or_default(), &[]),
        _ => responds(status, "application/json", example.to_string(), &[]),
    }
}

#[tokio::test]
async fn a_call_is_what_the_document_says() {
    let document = document();
    let mut calls = calls();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let id = operation["operationId"].as_str().unwrap();
            let call = calls.remove(id).unwrap_or_else(|| panic!("there is no method for {id}"));
            let script = Script::of(vec![example(&document, operation)]);
            let printed = call(script.client(builder())).await.unwrap_or_else(|error| panic!("{id}: {error}"));
            // The models know every member of the example.
            assert!(!printed.replace("extra: {}", "").contains("extra: {"), "{id}: {printed}");
            script.with_request(0, |request| check(&document, operation, (id, method, path), request));
        }
    }
    assert_eq!(calls.len(), 0, "these are no operations: {:?}", calls.keys());
}

fn check(document: &Value, operation: &Value, (id, method, path): (&str, &str, &str), request: &Outgoing) {
    assert_eq!(request.method.as_str(), method.to_uppercase(), "{id}");
    let expected = path.split('/').map(|segment| match segment.strip_prefix('{') {
        Some(name) => format!("given-{}", name.trim_end_matches('}')),
        None => segment.to_owned(),
    });
    assert_eq!(request.url.path(), expected.collect::<Vec<_>>().join("/"), "{id}");
    let none = Vec::new();
    let parameters = operation["parameters"].as_array().unwrap_or(&none);
    let parameters = parameters.iter().map(|one| resolved(document, one));
    let of = |place: &str| -> BTreeSet<String> {
        let found = parameters
            .clone()
            .filter(|one| one["in"] == place)
            .map(|one| one["name"].as_str().unwrap());
        found.filter(|name| !OF_THE_CLIENT.contains(name)).map(str::to_lowercase).collect()
    };
    let query: BTreeSet<String> = request.url.query_pairs().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(query, of("query"), "{id}");
    let sent = |name: &&str| request.headers.contains_key(*name);
    let headers: BTreeSet<String> = ["if-match", "idempotency-key"]
        .into_iter()
        .filter(sent)
        .map(str::to_owned)
        .collect();
    assert_eq!(headers, of("header"), "{id}");
    assert_eq!(sent(&"idempotency-key"), operation["x-idempotency"] == "key", "{id}");
    let needs_none = operation["security"].as_array().is_some_and(Vec::is_empty);
    assert_eq!(sent(&"authorization"), !needs_none, "{id}");

    let schema = resolved(document, &operation["requestBody"]["content"]["application/json"]["schema"]);
    assert_eq!(request.body.is_some(), !schema.is_null(), "{id}");
    assert_eq!(sent(&"content-type"), request.body.is_some(), "{id}");
    if let Some(body) = &request.body {
        let one = resolved(document, schema["oneOf"].get(0).unwrap_or(schema));
        conforms(document, one, &serde_json::from_slice(body).unwrap(), id);
    }
}

/// A value has all members of its schema, and no others.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolved(document, schema);
    match value {
        Value::Object(found) if !schema["properties"].is_null() => {
            assert_eq!(members(value), members(&schema["properties"]), "{at}");
            for (name, member) in found {
                conforms(document, &schema["properties"][name], member, &format!("{at}/{name}"));
            }
        }
        Value::Object(_) => {}
        Value::Array(items) => {
            assert!(!items.is_empty(), "{at}");
            items.iter().for_each(|item| conforms(document, &schema["items"], item, at));
        }
        other => {
            let kind = match other {
                Value::String(_) => "string",
                Value::Number(_) => "integer",
                _ => "boolean",
            };
            assert!(
                schema["type"].to_string().contains(kind),
                "{at}: {other} is not of {}",
                schema["type"]
            );
        }
    }
}

#[test]
fn settings_are_those_of_the_document() {
    let document = document();
    let sigv4 = XksSigv4::new("i", "s")
        .second(XksAccessKey::new("i", "s"))
        .client_certificate(ClientCertificate::new("c", "k"));
    let service_account = || GcpServiceAccountKey::new("i", "k", "e");
    let all: Vec<(&str, ConnectionSettings)> = vec![
        ("local", LocalSettings::default().into()),
        (
            "aws",
            AwsSettings::new("r", AwsAuth::Static(AwsAccessKey::new("i", "s").session_token("t")))
                .ca("c")
                .fips(true)
                .proxy("p")
                .into(),
        ),
        (
            "aws",
            AwsSettings::new(
                "r",
                AwsAuth::AssumeRole(AwsAssumeRole::new("a", AwsBase::Static(AwsAccessKey::new("i", "s")))),
            )
            .into(),
        ),
        (
            "azure",
            AzureSettings::new("v", AzureAuth::ClientSecret(AzureClientSecret::new("d", "i", "s")))
                .aes_algorithm(AzureAesAlgorithm::A256gcm)
                .hsm(true)
                .into(),
        ),
        (
            "azure",
            AzureSettings::new("v", AzureAuth::ClientCertificate(AzureClientCertificate::new("d", "i", "c", "k"))).into(),
        ),
        (
            "gcp",
            GcpSettings::new("r", GcpAuth::Impersonate(GcpImpersonate::new("a", GcpBase::Token("t".into()))))
                .hsm_random(true)
                .into(),
        ),
        (
            "gcp",
            GcpSettings::new("r", GcpAuth::ServiceAccountKey(service_account().r#type("t")))
                .protection_level(GcpProtectionLevel::Hsm)
                .into(),
        ),
        (
            "vault",
            VaultSettings::new("a", VaultAuth::Token("t".into()))
                .symmetric_key_type(VaultKeyType::from("aes256-gcm96"))
                .into(),
        ),
        (
            "vault",
            VaultSettings::new("a", VaultAuth::Approle(VaultAppRole::new("r", "s").mount("m"))).into(),
        ),
        (
            "kmip",
            KmipSettings::new("a", KmipAuth::new(ClientCertificate::new("c", "k")))
                .budget_ms(100)
                .into(),
        ),
        ("xks", XksSettings::new("a", "r", XksAuth::new(sigv4)).canary_key("k").into()),
    ];
    let schemas = &document["components"]["schemas"];
    let mapping = &schemas["CreateConnection"]["discriminator"]["mapping"];
    assert_eq!(all.iter().map(|(name, _)| *name).collect::<BTreeSet<_>>(), members(mapping));
    for (name, settings) in all {
        assert_eq!(settings.provider().as_str(), name);
        let create = resolved(&document, &schemas[mapping[name].as_str().unwrap().rsplit('/').next().unwrap()]);
        let sent: Value = serde_json::from_slice(&settings.to_body()).unwrap();
        is_part_of(&document, &create["properties"]["settings"], &sent, name);
    }
}

/// A value has the required members of its schema, and only documented ones.
fn is_part_of(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolved(document, schema);
    let Some(found) = value.as_object() else {
        return conforms(document, schema, value, at);
    };
    let required = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|name| name.as_str().unwrap());
    assert!(required.clone().all(|name| found.contains_key(name)), "{at}: {found:?}");
    assert!(schema["maxProperties"] != 1 || found.len() == 1, "{at}: {found:?}");
    for (name, member) in found {
        let property = schema["properties"]
            .get(name)
            .unwrap_or_else(|| panic!("{at}/{name} is not documented"));
        is_part_of(document, property, member, &format!("{at}/{name}"));
    }
}

#[tokio::test]
async fn settings_of_a_provider_that_is_not_known_are_sent_as_they_are() {
    let script = Script::of(vec![refusal(400, "invalid_request", false, &[])]);
    let settings = ConnectionSettings::Other {
        provider: "moon".into(),
        settings: json!({"pin": "1234", "deep": [true, null, 1]}).into(),
    };
    let request: CreateConnection = script.client(builder()).create_connection("c", settings);
    assert!(!format!("{request:?}").contains("1234"));
    failed(request.await, ErrorKind::InvalidRequest);
    let sent = script.with_request(0, |request| String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap());
    assert_eq!(
        sent,
        r#"{"name":"c","provider":"moon","settings":{"deep":[true,null,1],"pin":"1234"}}"#
    );
}

#[test]
fn words_and_codes_are_those_of_the_document() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let codes = schemas["ErrorCode"]["x-error-codes"].as_array().unwrap();
    assert!(codes.len() > 30);
    for of in codes {
        let code = ErrorCode::from(of["code"].as_str().unwrap());
        assert!(code.is_known());
        assert_eq!(code.status().map(u64::from), of["status"].as_u64());
        assert_eq!(Some(code.is_retryable()), of["retryable"].as_bool());
        let error = Error::from_problem(Map::from_iter([("code".to_owned(), json!(code.as_str()))]));
        assert_eq!(error.kind() == ErrorKind::Other, code == ErrorCode::Internal, "{code}");
    }
    let own = ErrorCode::KNOWN.iter().filter(|code| code.status().is_none());
    assert_eq!(own.count() + codes.len(), ErrorCode::KNOWN.len());
    for (name, known) in [
        ("KeyState", KeyState::KNOWN.iter().map(KeyState::as_str).collect::<Vec<_>>()),
        ("Operation", Operation::KNOWN.iter().map(Operation::as_str).collect()),
        ("Spec", Spec::KNOWN.iter().map(Spec::as_str).collect()),
        (
            "ConnectionCircuit",
            ConnectionCircuit::KNOWN.iter().map(ConnectionCircuit::as_str).collect(),
        ),
    ] {
        assert_eq!(json!(known), schemas[name]["x-extensible-enum"], "{name}");
    }
    assert_eq!(
        (Spec::Aes256.to_string(), Spec::from("aes-256")),
        ("aes-256".to_owned(), Spec::Aes256)
    );
    assert_eq!(KeyState::from("later".to_owned()), KeyState::Other("later".to_owned()));
}

#[tokio::test]
async fn a_problem_has_the_documented_members() {
    let document = document();
    let properties = document["components"]["schemas"]["Problem"]["properties"].as_object().unwrap();
    let mut problem: Map<String, Value> = properties.keys().map(|name| (name.clone(), json!(name))).collect();
    problem.insert("status".to_owned(), json!(400));
    problem.insert("retryable".to_owned(), json!(true));
    problem.insert("errors".to_owned(), json!([{"pointer": "p", "expected": "e"}]));
    let error = Error::from_problem(problem);
    assert!(error.extra().is_empty(), "{:?}", error.extra());
    assert_eq!((error.code().as_str(), error.title(), error.detail()), ("code", "title", "detail"));
    assert_eq!(
        (error.what_to_do(), error.request_id(), error.created_id()),
        (Some("what_to_do"), Some("request_id"), Some("created_id"))
    );
    assert_eq!(
        (error.provider_message(), error.provider().unwrap().as_str()),
        (Some("provider_message"), "provider")
    );
    assert_eq!((error.status(), error.is_retryable(), error.places().len()), (Some(400), true, 1));
}

#[tokio::test]
async fn a_result_that_is_given_back_is_sent_whole() {
    let body = key(json!({"cache": {"max_age": "2m", "later": 1}, "at_provider": null})).to_string();
    let script = Script::of(vec![responds(200, "application/json", body, &[])]);
    let client = script.client(builder());
    let found = client.get_key("orders").await.unwrap();
    assert!(found.at_provider.is_none() && found.managed_by.is_none());
    assert_eq!(found.cache.max_age, Some(Duration::from_secs(120)));
    client.update_key("orders", &found.etag).cache(found.cache).await.unwrap();
    let sent = script.with_request(1, |request| String::from_utf8(request.body.clone().unwrap().to_vec()).unwrap());
    assert_eq!(sent, r#"{"cache":{"max_age":"120000ms","later":1}}"#);
    assert_eq!(script.headers("if-match"), [None, Some("\"3\"".to_owned())]);
}

#[tokio::test]
async fn names_are_escaped_and_arguments_checked_before_anything_is_sent() {
    let script = Script::of(vec![success()]);
    let client = script.client(builder());
    for name in ["", ".", ".."] {
        failed(client.get_key(name).await, ErrorKind::InvalidArgument);
    }
    for key in ["", "a b", "a\n", "ü", &"x".repeat(256)] {
        failed(client.create_key("k", "c").idempotency_key(key).await, ErrorKind::InvalidArgument);
    }
    for etag in ["", "a\r\nb"] {
        failed(client.update_key("k", etag).await, ErrorKind::InvalidArgument);
    }
    for wrong in [
        client.with_timeout(Duration::ZERO),
        client.with_timeout(Duration::MAX),
        client.with_tenant("a\nb"),
        client.with_justification("x".repeat(257)),
        client.with_justification("ü"),
    ] {
        failed(wrong.with_retries(0).get_key("orders").await, ErrorKind::InvalidArgument);
    }
    assert_eq!(script.count(), 0);
    let name = "a/../b?c#d%2e\u{fc}";
    client.get_key(name).await.unwrap();
    let path = script.with_request(0, |request| request.url.path().to_owned());
    assert_eq!(path, "/v1/keys/a%2F..%2Fb%3Fc%23d%252e%C3%BC");
    assert_eq!(
        percent_decode_str(path.trim_start_matches("/v1/keys/")).decode_utf8().unwrap(),
        name
    );
}

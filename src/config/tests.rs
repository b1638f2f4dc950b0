#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops where an expectation fails")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger_provider::{KeySpec, ProviderKind};

use super::document;
use super::errors::Journal;
use super::server::Transport;
use super::storage::RootKey;
use super::{Config, ConfigErrors};

mod audit;
mod listeners;
mod variables;

const EXAMPLE: &str = include_str!("../../config/claviger.example.toml");
const DEV: &str = include_str!("../../config/dev.toml");
const MINIMAL: &str = "storage.root_key.file = \"/k\"\n";

fn load(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("claviger.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(
        Some(&path),
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    )
}

/// The lines of the message, without the folder's name.
fn mistakes(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    let message = load(text, variables).expect_err("the configuration is wrong").to_string();
    message
        .lines()
        .map(|line| line.split_once("/claviger.toml:").map_or(line, |(_, rest)| rest).to_owned())
        .collect()
}

fn only_mistake(text: &str, variables: &[(&str, &str)]) -> String {
    let mut all = mistakes(text, variables);
    assert_eq!(all.len(), 1, "{all:#?}");
    all.remove(0)
}

/// The example with every `#name` and `#[section]` made a setting.
fn uncommented() -> String {
    let setting = |line: &str| {
        line.strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()))
            .map(str::to_owned)
    };
    EXAMPLE
        .lines()
        .map(|line| setting(line).unwrap_or_else(|| line.to_owned()) + "\n")
        .collect()
}

#[test]
fn the_examples_comments_are_the_codes_defaults() {
    let defaults = load(EXAMPLE, &[]).unwrap();
    assert_eq!(load(&uncommented(), &[]).unwrap(), defaults);
    assert_eq!(defaults, load("storage.root_key.file = \"/etc/claviger/root.key\"", &[]).unwrap());
}

#[test]
fn the_example_shows_every_setting() {
    let journal = Journal::default();
    Config::read(Some(MINIMAL), std::iter::empty(), &journal).unwrap();
    let shown = document::parse(&uncommented(), &journal);
    // These stand in the example's prose, having no default.
    let prose = [
        "audit.keep.bytes",
        "audit.keep.age",
        "audit.archive.folder",
        "server.tls.certificate",
        "server.tls.key",
        "server.service.listen",
        "server.service.allow_plain_http",
        "server.service.tls.certificate",
        "server.service.tls.key",
        "server.operator.listen",
        "server.operator.allow_plain_http",
        "server.operator.tls.certificate",
        "server.operator.tls.key",
        "server.operator.limits.max_connections",
        "server.operator.limits.max_connections_per_source",
        "server.operator.limits.max_in_flight",
        "server.operator.limits.max_bytes",
        "server.operator.limits.max_body_rate",
        "server.operator.limits.max_streams",
        "server.operator.limits.handshake_timeout",
        "server.operator.limits.header_timeout",
        "server.operator.limits.idle_timeout",
        "server.operator.limits.slow_reader_timeout",
        "storage.root_key.systemd_credential",
        "storage.root_key.wrapped",
        "storage.root_key.provider",
        "storage.root_key.key",
        "storage.root_key.spec",
        "providers.aws.kms_endpoint",
        "providers.aws.sts_endpoint",
        "providers.azure.vaults",
        "providers.azure.managed_hsms",
        "providers.azure.authority",
        "providers.azure.vault_resource",
        "providers.azure.managed_hsm_resource",
        "providers.azure.application.client_id",
        "providers.azure.application.secret_file",
        "providers.gcp.kms_endpoint",
        "providers.gcp.sts_endpoint",
        "providers.gcp.iam_endpoint",
    ];
    for setting in journal.settings() {
        let name = setting.rsplit('.').next().unwrap();
        let in_prose = prose.contains(&setting.as_str()) && EXAMPLE.contains(name);
        assert!(in_prose || holds(&shown, &setting), "{setting} is not in the example");
    }
}

fn holds(table: &document::Table, setting: &str) -> bool {
    match setting.split_once('.') {
        None => table.contains_key(setting),
        Some((first, rest)) => table
            .get(first)
            .is_some_and(|entry| matches!(&entry.node.value, document::Value::Table(inner) if holds(inner, rest))),
    }
}

#[test]
fn the_sizes_of_memory_have_bounds() {
    let memory = load(&format!("{MINIMAL}[memory]\nkeys = 250000\n"), &[]).unwrap().memory;
    assert_eq!((memory.keys, memory.names, memory.embedded_keys), (250_000, 100_000, 10_000));
    for wrong in ["9999", "10000001", "\"many\""] {
        let line = only_mistake(&format!("{MINIMAL}[memory]\nconnections = {wrong}\n"), &[]);
        assert!(line.contains("`memory.connections`"), "{line}");
    }
}

#[test]
fn dev_stays_on_loopback_and_in_the_working_directory() {
    let dev = load(DEV, &[]).unwrap();
    assert!(dev.server.listen.ip().is_loopback());
    assert!(dev.storage.data_dir.is_relative());
    assert_eq!(dev.storage.root_key, RootKey::File(PathBuf::from(".claviger/root.key")));
}

#[test]
fn defaults_are_the_contracts() {
    let config = load(MINIMAL, &[]).unwrap();
    assert_eq!(config.server.listen, "127.0.0.1:8420".parse().unwrap());
    assert_eq!(config.server.transport, Transport::Plain);
    assert_eq!(config.server.request_deadline, Duration::from_secs(10));
    assert_eq!(config.providers.attempt_timeout, Duration::from_secs(3));
    assert_eq!(config.providers.creation_timeout, Duration::from_secs(30));
    assert_eq!(config.providers.retries, 2);
    assert_eq!(config.providers.aws, Default::default());
    assert_eq!(config.providers.azure, Default::default());
    assert_eq!(config.providers.gcp, Default::default());
    assert_eq!((config.egress.allow, config.egress.allow_plain_http), (Vec::new(), false));
    assert_eq!(
        (config.cache.max_age, config.cache.max_idle),
        (Duration::from_secs(60), Duration::from_secs(15))
    );
    let cache = &config.cache;
    assert_eq!(
        (cache.entries_per_tenant, cache.bytes_per_tenant, cache.bytes),
        (10_000, 1 << 20, 4 << 20)
    );
}

#[test]
fn the_sizes_of_the_cache_follow_each_other() {
    for (settings, expected) in [
        ("entries_per_tenant = 100000", (100_000, 6_400_000, 25_600_000)),
        ("entries_per_tenant = 100", (100, 1 << 20, 4 << 20)),
        ("bytes_per_tenant = \"64KiB\"", (1_024, 64 << 10, 256 << 10)),
        ("bytes_per_tenant = \"4KiB\"", (64, 4 << 10, 64 << 10)),
        ("bytes_per_tenant = \"8MiB\"", (10_000, 8 << 20, 32 << 20)),
        ("bytes = \"1MiB\"", (10_000, 1 << 20, 1 << 20)),
    ] {
        let cache = load(&format!("{MINIMAL}[cache]\n{settings}\n"), &[]).unwrap().cache;
        assert_eq!(
            (cache.entries_per_tenant, cache.bytes_per_tenant, cache.bytes),
            expected,
            "{settings}"
        );
    }
    for (settings, wrong) in [
        (
            "entries_per_tenant = 1025\nbytes_per_tenant = \"64KiB\"",
            "`cache.entries_per_tenant` entries do not fit",
        ),
        ("bytes = \"512KiB\"", "`cache.bytes_per_tenant` is more than `cache.bytes`"),
    ] {
        let line = only_mistake(&format!("{MINIMAL}[cache]\n{settings}\n"), &[]);
        assert!(line.starts_with(&format!("2:2: {wrong}")), "{line}");
    }
}

#[test]
fn every_mistake_is_reported_at_once_in_the_order_of_the_file() {
    let text = "[server]\n\
                listen = \"localhost:80\"\n\
                lisen = 1\n\
                \x20 drain_timeout = \"61\"\n\
                [cache]\n\
                max_age = \"301s\"\n\
                enabled = \"yes\"\n\
                [storage]\n\
                root_key = { file = \"/k\" }\n\
                [stroage]\n";
    let found = mistakes(text, &[("CLAVIGER_PROVIDERS__RETRIES", "3"), ("CLAVIGER_PROVIDERS__RETRY", "3")]);
    let starts = [
        "2:10: `server.listen` has the wrong format; expected an IP address with a port",
        "3:1: there is no setting `lisen` in `server`; expected one of allow_plain_http, drain_delay, drain_timeout, limits, listen, ",
        "4:19: `server.drain_timeout` has the wrong format; expected a duration as a string",
        "6:11: `cache.max_age` is out of range; expected a duration as a string, a whole number with ms, s, m, h or d, from \"1s\" to \"5m\"",
        "7:11: `cache.enabled` cannot be a string; expected true or false",
        "10:2: there is no section or setting `stroage`; expected one of audit, cache, connections, egress, keys, memory, providers, quotas, server, storage, telemetry, tenants",
        "CLAVIGER_PROVIDERS__RETRIES: `providers.retries` is out of range; expected a whole number from 0 to 2",
        "CLAVIGER_PROVIDERS__RETRY: there is no setting `retry` in `providers`; expected one of ",
    ];
    assert_eq!(found.len(), starts.len(), "{found:#?}");
    for (line, start) in found.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}\n{start}");
    }
}

#[test]
fn syntax_errors_do_not_hide_the_rest_and_are_not_blamed_twice() {
    let found = mistakes("[server]\nlisten = 127.0.0.1\n\n[cache]\nmax_age = = 3\nmax_idle = 7\n", &[]);
    assert!(
        found.iter().any(|line| line.starts_with("2:") && line.contains("not TOML")),
        "{found:#?}"
    );
    assert!(
        found.iter().any(|line| line.starts_with("5:") && line.contains("not TOML")),
        "{found:#?}"
    );
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("6:12: `cache.max_idle` cannot be an integer")),
        "{found:#?}"
    );
    assert!(
        !found
            .iter()
            .any(|line| line.contains("`server.listen`") || line.contains("root_key")),
        "{found:#?}"
    );
}

#[test]
fn no_message_repeats_a_value() {
    let text = "[server]\nlisten = \"hunter2\"\ntrusted_proxies = [\"hunter2\"]\nrequest_deadline = \"hunter2\"\n\
                [storage]\nroot_key = \"hunter2\"\n[audit]\ndisk_reserve = \"hunter2\"\n[telemetry]\nlog_level = \"hunter2\"\n";
    for line in mistakes(
        text,
        &[("CLAVIGER_CACHE__ENABLED", "hunter2"), ("CLAVIGER_TELEMETRY__METRICS", "hunter2")],
    ) {
        assert!(!line.contains("hunter2"), "{line}");
    }
    for line in mistakes(
        "[storage]\nroot_key = { file = hunter2 }\nx = \"hunter2\nroot_key = \"hunter2\"\n",
        &[],
    ) {
        assert!(!line.contains("hunter2"), "{line}");
    }
}

#[test]
fn columns_count_characters_and_names_are_cut_and_escaped() {
    let long = "x".repeat(10_000);
    let line = only_mistake(&format!("{MINIMAL}\"ключ\\u001b{long}\" = 1\n"), &[]);
    assert!(line.starts_with("2:1: there is no section or setting `ключ\\u{1b}xxx"), "{line}");
    assert!(line.len() < 300, "{line}");
    let line = only_mistake("storage = { \"ü\" = 1, root_key = { file = \"/k\" } }", &[]);
    assert!(line.starts_with("1:13:"), "{line}");
}

#[test]
fn exactly_one_root_key_source() {
    for source in [
        "",
        "storage.root_key.systemd_credential = false",
        "storage.root_key = { file = \"/k\", systemd_credential = true }",
    ] {
        let line = only_mistake(source, &[("CLAVIGER_STORAGE__DATA_DIR", "/d")]);
        assert!(
            line.starts_with("1:") && line.contains("`storage.root_key` does not name exactly one source"),
            "{line}"
        );
    }
    let config = load("storage.root_key.systemd_credential = true", &[]).unwrap();
    assert_eq!(config.storage.root_key, RootKey::SystemdCredential);
}

#[test]
fn a_wrapped_root_key_names_who_unwraps_it() {
    let good = "[storage.root_key]\nwrapped = \"/w\"\nprovider = \"vault\"\nkey = \"root\"\nsettings = { address = \"https://vault\" }\n";
    let RootKey::Wrapped(source) = load(good, &[]).unwrap().storage.root_key else {
        panic!("another source");
    };
    assert_eq!(
        (source.file, source.provider, source.key.as_str(), source.spec),
        (PathBuf::from("/w"), ProviderKind::Vault, "root", KeySpec::Aes256)
    );
    for (line, says) in [
        ("wrapped = \"/w\"", "`storage.root_key` does not name exactly one source"),
        ("provider = \"vault\"", "`storage.root_key.provider` is missing"),
        ("key = \"root\"", "`storage.root_key.key` is missing"),
    ] {
        let refused = load(&good.replace(line, ""), &[]).unwrap_err().to_string();
        assert!(refused.contains(says), "{refused}");
    }
    let refused = load(&good.replace("vault\"\nkey", "local\"\nkey"), &[]).unwrap_err().to_string();
    assert!(refused.contains("whose keys the root key seals"), "{refused}");
    let refused = load(&format!("{good}file = \"/k\"\n"), &[]).unwrap_err().to_string();
    assert!(refused.contains("does not name exactly one source"), "{refused}");
}

#[test]
fn contradictions_between_settings_are_mistakes() {
    let line = only_mistake(&format!("{MINIMAL}[cache]\nmax_age = \"10s\"\nmax_idle = \"11s\"\n"), &[]);
    assert!(line.starts_with("2:2: `cache.max_idle` is longer"), "{line}");
    let line = only_mistake(
        &format!("{MINIMAL}server.request_deadline = \"2s\"\nproviders.attempt_timeout = \"2001ms\"\n"),
        &[],
    );
    assert!(line.starts_with("3:1: `providers.attempt_timeout` is longer"), "{line}");
    let line = only_mistake(
        &format!("{MINIMAL}providers.attempt_timeout = \"3s\"\nproviders.creation_timeout = \"2s\"\n"),
        &[],
    );
    assert!(line.starts_with("2:1: `providers.creation_timeout` is shorter"), "{line}");
}

#[test]
fn a_default_follows_the_setting_that_bounds_it() {
    let config = load(
        &format!("{MINIMAL}cache.max_age = \"10s\"\nserver.request_deadline = \"2s\"\n"),
        &[],
    )
    .unwrap();
    assert_eq!(
        (config.cache.max_idle, config.providers.attempt_timeout),
        (Duration::from_secs(10), Duration::from_secs(2))
    );
}

#[test]
fn a_file_that_cannot_be_read_is_one_mistake() {
    let none = std::iter::empty;
    let missing = Config::load(Some(Path::new("no/such/file.toml")), none()).unwrap_err().to_string();
    assert!(
        missing.starts_with("no/such/file.toml: the file cannot be read (no such file)"),
        "{missing}"
    );
    let without = Config::load(None, none()).unwrap_err().to_string();
    assert!(
        without.starts_with(
            "configuration (no file is given: --config FILE or CLAVIGER_CONFIG): `storage.root_key` does not name exactly one source"
        ),
        "{without}"
    );
    assert!(mistakes(&"#".repeat(2 << 20), &[])[0].contains("too large"));
}

#[test]
fn depth_is_bounded() {
    assert!(!mistakes(&format!("x = {}", "[".repeat(100_000)), &[]).is_empty());
    assert!(!mistakes(&format!("{} = 1", vec!["a"; 50_000].join(".")), &[]).is_empty());
}

#[test]
fn an_endpoint_of_aws_is_an_address() {
    let config = load(MINIMAL, &[("CLAVIGER_PROVIDERS__AWS__KMS_ENDPOINT", "http://127.0.0.1:5000")]).unwrap();
    assert_eq!(config.providers.aws.kms_endpoint.as_deref(), Some("http://127.0.0.1:5000/"));
    for wrong in ["kms.example", "ftp://kms.example", "https://user:SECRET@kms.example"] {
        let line = only_mistake(MINIMAL, &[("CLAVIGER_PROVIDERS__AWS__STS_ENDPOINT", wrong)]);
        assert!(line.contains("`providers.aws.sts_endpoint` has the wrong format"), "{line}");
        assert!(!line.contains("SECRET"), "{line}");
    }
}

#[test]
fn vaults_beside_azures_own_are_addresses() {
    let list = [
        ("CLAVIGER_PROVIDERS__AZURE__VAULTS", "https://127.0.0.1:8443, https://vault.example"),
        (
            "CLAVIGER_PROVIDERS__AZURE__APPLICATION__CLIENT_ID",
            "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
        ),
        ("CLAVIGER_PROVIDERS__AZURE__APPLICATION__SECRET_FILE", "/etc/claviger/application"),
    ];
    let azure = load(MINIMAL, &list).unwrap().providers.azure;
    assert_eq!(azure.vaults, ["https://127.0.0.1:8443/", "https://vault.example/"]);
    assert_eq!(azure.application.unwrap().secret_file, PathBuf::from("/etc/claviger/application"));
    let text = format!("{MINIMAL}\n[providers.azure]\nmanaged_hsms = [\"https://hsm.example\"]\n");
    assert_eq!(load(&text, &[]).unwrap().providers.azure.managed_hsms, ["https://hsm.example/"]);
    let text = format!("{MINIMAL}\n[providers.azure]\nvault_resource = \"https://vault.example/9d9b2a3c\"\n");
    let resource = load(&text, &[]).unwrap().providers.azure.vault_resource;
    assert_eq!(resource.as_deref(), Some("https://vault.example/9d9b2a3c"));
    for (name, wrong) in [("VAULTS", "vault.example"), ("MANAGED_HSMS", "https://user:SECRET@vault.example")] {
        let line = only_mistake(MINIMAL, &[(&format!("CLAVIGER_PROVIDERS__AZURE__{name}"), wrong)]);
        assert!(line.contains("has the wrong format") && !line.contains("SECRET"), "{line}");
    }
    let half = only_mistake(MINIMAL, &list[1..2]);
    assert!(
        half.contains("`providers.azure.application` has only one of its two settings"),
        "{half}"
    );
}

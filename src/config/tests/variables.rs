//! Settings by environment variables.

use super::*;

#[test]
fn variables_win_and_stand_for_every_type() {
    let config = load(
        "[server]\nlisten = \"127.0.0.1:1\"\n[storage]\nroot_key = { file = \"/k\" }\n",
        &[
            ("CLAVIGER_SERVER__LISTEN", "[::1]:2"),
            ("CLAVIGER_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, 192.0.2.1"),
            ("CLAVIGER_SERVER__LIMITS__MAX_CONNECTIONS", "7"),
            ("CLAVIGER_TELEMETRY__METRICS", "false"),
            ("CLAVIGER_STORAGE__ROOT_KEY__FILE", "/other"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen, "[::1]:2".parse().unwrap());
    assert_eq!(
        config.server.trusted_proxies,
        vec!["10.0.0.0/8".parse().unwrap(), "192.0.2.1/32".parse().unwrap()]
    );
    assert_eq!(config.server.limits.max_connections, 7);
    assert!(!config.telemetry.metrics);
    assert_eq!(config.storage.root_key, RootKey::File(PathBuf::from("/other")));
}

#[test]
fn variables_that_others_read_are_left_alone() {
    for name in super::super::COMMAND_LINE {
        load(MINIMAL, &[(name, "x")]).unwrap();
    }
    // Those of Kubernetes for the Services `claviger` and `claviger-admin`.
    let of_kubernetes = [
        ("CLAVIGER_SERVICE_HOST", "10.0.0.1"),
        ("CLAVIGER_SERVICE_PORT", "8420"),
        ("CLAVIGER_SERVICE_PORT_HTTPS", "8420"),
        ("CLAVIGER_PORT", "tcp://10.0.0.1:8420"),
        ("CLAVIGER_PORT_8420_TCP", "tcp://10.0.0.1:8420"),
        ("CLAVIGER_PORT_8420_TCP_ADDR", "10.0.0.1"),
        ("CLAVIGER_PORT_8420_TCP_PORT", "8420"),
        ("CLAVIGER_PORT_8420_TCP_PROTO", "tcp"),
        ("CLAVIGER_ADMIN_SERVICE_HOST", "10.0.0.2"),
        ("CLAVIGER_ADMIN_PORT", "udp://10.0.0.2:8421"),
    ];
    load(MINIMAL, &of_kubernetes).unwrap();
    load(MINIMAL, &[("PATH", "/bin"), ("CLAVIGER_TEST_SEED", "1")]).unwrap();
}

#[test]
fn a_variable_that_nobody_reads_is_a_mistake_and_what_was_meant_is_told() {
    let why = "there is no such setting (two underscores separate the parts of a setting's name); expected";
    for (name, meant) in [
        ("CLAVIGER_SERVER_LISTEN", "CLAVIGER_SERVER__LISTEN"),
        (
            "CLAVIGER_LISTEN",
            "CLAVIGER_SERVER__LISTEN or CLAVIGER_SERVER__OPERATOR__LISTEN or CLAVIGER_SERVER__SERVICE__LISTEN",
        ),
        ("CLAVIGER_DATADIR", "CLAVIGER_STORAGE__DATA_DIR"),
        ("CLAVIGER_log_level", "CLAVIGER_TELEMETRY__LOG_LEVEL"),
        ("CLAVIGER_TOKENFILE", "CLAVIGER_TOKEN_FILE"),
    ] {
        assert_eq!(only_mistake(MINIMAL, &[(name, "hunter2")]), format!("{name}: {why} {meant}"));
    }
    for name in [
        "CLAVIGER_FOO",
        "CLAVIGER_",
        "CLAVIGER_PORT",
        "CLAVIGER_SERVICE",
        "CLAVIGER_PORT_X_TCP",
    ] {
        let line = only_mistake(MINIMAL, &[(name, "8080")]);
        assert!(
            line.starts_with(&format!("{name}: there is no such setting; expected a setting, such as ")),
            "{line}"
        );
        assert!(line.ends_with("CLAVIGER_TOKEN, CLAVIGER_TOKEN_FILE"), "{line}");
    }
}

#[test]
fn a_variable_of_no_setting_is_a_mistake() {
    for name in [
        "CLAVIGER_SERVER__LISTEN__X",
        "CLAVIGER_SERVER__",
        "CLAVIGER___X",
        "CLAVIGER_server__listen",
    ] {
        assert!(
            mistakes(&format!("{MINIMAL}server.listen = \"127.0.0.1:1\""), &[(name, "1")])[0].starts_with(name),
            "{name}"
        );
    }
}

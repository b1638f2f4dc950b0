//! The addresses, transports and limits of the listeners.

use std::path::Path;

use super::super::server::Transport;
use super::{MINIMAL, load, only_mistake};

#[test]
fn plain_http_off_loopback_needs_the_switch() {
    let open = format!("{MINIMAL}[server]\nlisten = \"0.0.0.0:8420\"\n");
    assert!(only_mistake(&open, &[]).contains("`server.listen` is not a loopback address"));
    assert_eq!(
        load(&format!("{open}allow_plain_http = true\n"), &[]).unwrap().server.transport,
        Transport::Plain
    );
    let tls = load(&format!("{open}tls = {{ certificate = \"c\", key = \"k\" }}\n"), &[]).unwrap();
    assert!(matches!(tls.server.transport, Transport::Tls(files) if files.key == Path::new("k")));
    assert!(only_mistake(&format!("{MINIMAL}[server.tls]\nkey = \"k\"\n"), &[]).starts_with("2:9: [server.tls] is incomplete"));
}

#[test]
fn the_service_endpoints_listener_is_complete_apart_and_plain_only_on_request() {
    let with = |service: &str| format!("{MINIMAL}[server.service]\n{service}\n");
    assert_eq!(load(MINIMAL, &[]).unwrap().server.service, None);
    let config = load(
        &with("listen = \"127.0.0.1:9444\""),
        &[("CLAVIGER_SERVER__SERVICE__LISTEN", "[::1]:1")],
    )
    .unwrap();
    let service = config.server.service.unwrap();
    assert_eq!((service.listen, service.transport), ("[::1]:1".parse().unwrap(), Transport::Plain));
    let open = "listen = \"0.0.0.0:9444\"\n";
    for (text, wrong) in [
        (open.to_owned(), "2:9: `server.service.listen` is not a loopback address"),
        (format!("{open}tls.key = \"k\""), "4:1: [server.service.tls] is incomplete"),
        ("allow_plain_http = true".to_owned(), "2:9: [server.service] has no `listen`"),
        (
            "listen = \"127.0.0.1:8420\"".to_owned(),
            "2:9: `server.service.listen` is the address of the API",
        ),
        (
            "listen = \"127.0.0.1\"".to_owned(),
            "3:10: `server.service.listen` has the wrong format",
        ),
    ] {
        let line = only_mistake(&with(&text), &[]);
        assert!(line.starts_with(wrong), "{line}");
    }
    let plain = load(&with(&format!("{open}allow_plain_http = true")), &[]).unwrap();
    assert_eq!(plain.server.service.unwrap().transport, Transport::Plain);
    let tls = load(&with(&format!("{open}tls = {{ certificate = \"c\", key = \"k\" }}")), &[]).unwrap();
    assert!(matches!(tls.server.service.unwrap().transport, Transport::Tls(files) if files.key == Path::new("k")));
    // The API's own switch says nothing of this listener.
    let line = only_mistake(&format!("{MINIMAL}server.allow_plain_http = true\n[server.service]\n{open}"), &[]);
    assert!(line.contains("`server.service.listen` is not a loopback address"), "{line}");
}

#[test]
fn the_operators_listener_has_an_address_and_limits_of_its_own() {
    assert_eq!(load(MINIMAL, &[]).unwrap().server.operator, None);
    let text = format!(
        "{MINIMAL}[server]\ntrusted_proxies = [\"10.0.0.0/8\"]\nservice.listen = \"127.0.0.1:2\"\n\
         [server.operator]\nlisten = \"127.0.0.1:3\"\nlimits.max_in_flight = 5\n"
    );
    let server = load(&text, &[]).unwrap().server;
    let operator = server.operator.unwrap();
    assert_eq!(
        (operator.listen, operator.transport),
        ("127.0.0.1:3".parse().unwrap(), Transport::Plain)
    );
    assert_eq!((operator.limits.max_connections, operator.limits.max_in_flight), (128, 5));
    assert_eq!(
        (server.limits.max_connections, server.limits.max_connections_per_source),
        (1024, 256)
    );
    assert_eq!(server.limits.unlimited_sources, server.trusted_proxies);
    for (from, to, wrong) in [
        ("7.0.0.1:3", "7.0.0.1:8420", "`server.operator.listen` is the address of the API"),
        (
            "7.0.0.1:3",
            "7.0.0.1:2",
            "`server.operator.listen` is the address of the service endpoints",
        ),
        ("127.0.0.1:3", "0.0.0.0:3", "`server.operator.listen` is not a loopback address"),
        ("listen = \"127.0.0.1:3\"\n", "", "[server.operator] has no `listen`"),
        (
            "max_in_flight = 5",
            "max_in_flight = 0",
            "`server.operator.limits.max_in_flight` is out of range",
        ),
    ] {
        let line = only_mistake(&text.replace(from, to), &[]);
        assert!(line.contains(wrong), "{line}");
    }
}

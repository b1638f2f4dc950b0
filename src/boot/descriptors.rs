//! File descriptors. Each connection takes one, and many systems give a process only 1,024 of those that
//! it may have: the listener of the API could then take the last one from the operator's.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::server::Server;

/// What is needed besides callers' connections: files, the database, connections to providers.
const OTHERS: u64 = 1024;

/// Raises the process's limit to what all listeners may take, as far as the system allows.
pub(super) fn raise_limit(server: &Server) {
    let service = server.service.as_ref().map(|_| &server.limits);
    let operator = server.operator.as_ref().map(|operator| &operator.limits);
    let listeners = std::iter::once(&server.limits).chain(service).chain(operator);
    let needed = OTHERS + listeners.map(|limits| u64::from(limits.max_connections)).sum::<u64>();
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    if limit.current.is_none_or(|current| current >= needed) {
        return;
    }
    let possible = limit.maximum.map_or(needed, |maximum| maximum.min(needed));
    let raised = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: Some(possible),
            maximum: limit.maximum,
        },
    );
    if raised.is_err() || possible < needed {
        tracing::warn!(
            needed,
            maximum = limit.maximum,
            what_to_do = "raise the limit of open files (systemd: LimitNOFILE), or lower server.limits.max_connections",
            "there are fewer file descriptors than the listeners may take"
        );
    }
}

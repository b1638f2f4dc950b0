//! File descriptors. Each connection takes one, and many systems give a process only 1,024 of those that
//! it may have: the listener of the API could then take the last one from the operator's, and the servers that
//! tenants name could take those of the listeners, the store and the audit log.

use claviger_provider::Shares;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::server::Server;

/// What files, the database and the audit log need.
const FILES: u64 = 1024;
/// The most that the process raises its limit to: what a service usually may have.
const SANE: u64 = 1 << 20;
/// The most sockets to providers.
const SOCKETS: u64 = 8192;
/// The least, where the system allows too few descriptors for all.
const LEAST_SOCKETS: u64 = 512;

/// Raises the process's limit as far as the system allows. Returns what is left for sockets to providers.
pub(super) fn raise_limit(server: &Server) -> Shares {
    let service = server.service.as_ref().map(|_| &server.limits);
    let operator = server.operator.as_ref().map(|operator| &operator.limits);
    let listeners = std::iter::once(&server.limits).chain(service).chain(operator);
    let taken = FILES + listeners.map(|limits| u64::from(limits.max_connections)).sum::<u64>();
    let limit = getrlimit(Resource::Nofile);
    // None is no limit.
    let possible = limit.maximum.map_or(SANE, |maximum| maximum.min(SANE));
    let raised = limit.current.is_some_and(|current| current < possible)
        && setrlimit(
            Resource::Nofile,
            Rlimit {
                current: Some(possible),
                maximum: limit.maximum,
            },
        )
        .is_ok();
    let allowed = if raised { possible } else { limit.current.unwrap_or(SANE) };
    let sockets = sockets(allowed, taken);
    if allowed < taken + sockets {
        tracing::warn!(
            needed = taken + sockets,
            maximum = limit.maximum,
            what_to_do = "raise the limit of open files (systemd: LimitNOFILE), or lower server.limits.max_connections",
            "there are fewer file descriptors than listeners and connections to providers may take"
        );
    }
    let sockets = usize::try_from(sockets).unwrap_or(usize::MAX);
    // Several tenants must want all at once before another one gets none.
    Shares::new(sockets, sockets / 4)
}

/// The sockets to providers, where so many descriptors are allowed and so many are taken by others.
fn sockets(allowed: u64, taken: u64) -> u64 {
    // Half of what is left: a socket that is being closed has no place any more, but still a descriptor.
    (allowed.saturating_sub(taken) / 2).clamp(LEAST_SOCKETS, SOCKETS)
}

#[cfg(test)]
mod tests {
    use super::{LEAST_SOCKETS, SOCKETS, sockets};

    #[test]
    fn sockets_to_providers_leave_what_others_need() {
        assert_eq!(sockets(1 << 20, 2176), SOCKETS);
        assert_eq!(sockets(4176, 2176), 1000);
        assert_eq!(sockets(1024, 2176), LEAST_SOCKETS);
    }
}

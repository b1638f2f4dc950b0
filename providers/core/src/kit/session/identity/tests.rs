#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{advance, sleep};

use super::{Identities, Lockout, Membership};
use crate::kit::call_error::CallError;
use crate::kit::session::tests::Denied;
use crate::{ConnectionId, ErrorKind, LoginReport, ProviderKind, Secret, TenantId};

const LOCKOUT: Lockout = Lockout {
    refusals: 3,
    pause: Duration::from_secs(16 * 60),
};
/// What a login takes.
const LOGIN: Duration = Duration::from_millis(10);

/// A service with one role, whose secret is `right`.
#[derive(Default)]
struct Service {
    right: Mutex<String>,
    logins: AtomicU32,
    refused: AtomicU32,
    at_once: AtomicU32,
    most_at_once: AtomicU32,
}

impl Service {
    fn of(right: &str) -> Arc<Self> {
        Arc::new(Self {
            right: Mutex::new(right.to_owned()),
            ..Self::default()
        })
    }

    /// Logs in through a connection.
    async fn login(&self, member: &Membership<Denied>, secret: &str) -> Result<(), CallError<Denied>> {
        let secrets = vec![("secret_id".to_owned(), Secret::copy_from(secret.as_bytes()))];
        let login = async {
            self.logins.fetch_add(1, Ordering::Relaxed);
            let at_once = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(at_once, Ordering::Relaxed);
            sleep(LOGIN).await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            if *self.right.lock() == secret {
                return Ok(());
            }
            self.refused.fetch_add(1, Ordering::Relaxed);
            Err(CallError::Refused(Denied))
        };
        member.login(&secrets, login).await
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    fn logins(&self) -> u32 {
        self.logins.load(Ordering::Relaxed)
    }
}

fn report(tenant: TenantId, declared: bool) -> LoginReport {
    LoginReport::new(tenant, ConnectionId::random(), ProviderKind::Vault).declared(declared)
}

fn declared(identities: &Identities<Denied>, connections: usize) -> Vec<Arc<Membership<Denied>>> {
    let join = |_| Arc::new(identities.join("role".to_owned(), Some(LOCKOUT), &report(TenantId::random(), true)));
    (0..connections).map(join).collect()
}

/// Logs in through all connections at once; returns which of them were accepted.
async fn all(service: &Arc<Service>, members: &[Arc<Membership<Denied>>], secret: &'static str) -> Vec<bool> {
    let login = |member: &Arc<Membership<Denied>>| {
        let (service, member) = (Arc::clone(service), Arc::clone(member));
        tokio::spawn(async move { service.login(&member, secret).await.is_ok() })
    };
    let logins: Vec<_> = members.iter().map(login).collect();
    let mut accepted = Vec::new();
    for login in logins {
        accepted.push(login.await.unwrap());
    }
    accepted
}

#[tokio::test(start_paused = true)]
async fn one_refused_login_is_that_of_all_connections() {
    let service = Service::of("right");
    let members = declared(&Identities::default(), 60);
    assert!(all(&service, &members, "wrong").await.iter().all(|accepted| !accepted));
    assert_eq!(service.logins(), 1);
    for member in &members {
        assert!(member.pause().is_some_and(|pause| pause > Duration::from_secs(14)) && !member.is_over());
        let error = service.login(member, "wrong").await.unwrap_err();
        assert!(error.is_refused_login() && error.into_error("x").repeated);
    }
    // Once one of them is accepted, all are.
    *service.right.lock() = "wrong".to_owned();
    members[7].set_trial(true);
    service.login(&members[7], "wrong").await.unwrap();
    assert!(members.iter().enumerate().all(|(at, member)| member.is_over() == (at != 7)));
    assert!(all(&service, &members, "wrong").await.iter().all(|accepted| *accepted));
}

#[tokio::test(start_paused = true)]
async fn an_accepted_secret_is_used_by_two_at_once_and_refused_to_two_at_most() {
    let service = Service::of("right");
    let members = declared(&Identities::default(), 60);
    assert!(all(&service, &members, "right").await.iter().all(|accepted| *accepted));
    assert_eq!((service.logins(), service.most_at_once.load(Ordering::Relaxed)), (60, 2));
    *service.right.lock() = "another".to_owned();
    all(&service, &members, "right").await;
    assert!(service.refused() <= 2, "{} refusals", service.refused());
    // A new secret is tried at once.
    assert!(all(&service, &members, "another").await.iter().all(|accepted| *accepted));
}

#[tokio::test(start_paused = true)]
async fn checks_and_pauses_never_lock_an_identity() {
    let service = Service::of("right");
    let members = declared(&Identities::default(), 8);
    let mut last = 0;
    for second in 0..15 * 60 {
        let member = &members[second % members.len()];
        if second % 2 == 0 {
            member.set_trial(true);
        }
        let before = service.refused();
        service.login(member, "wrong").await.unwrap_err();
        if service.refused() > before {
            last = second;
        }
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(service.refused(), 3, "OpenBao locks after five");
    advance(LOCKOUT.pause - Duration::from_secs(15 * 60 - u64::try_from(last).unwrap())).await;
    service.login(&members[0], "wrong").await.unwrap_err();
    assert_eq!(service.refused(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_cannot_lock_an_identity_that_the_operator_declares() {
    let service = Service::of("right");
    let identities = Identities::default();
    let operators = declared(&identities, 2);
    let own: Vec<_> = (0..8)
        .map(|_| identities.join("role".to_owned(), Some(LOCKOUT), &report(TenantId::random(), false)))
        .collect();
    let mut kinds = Vec::new();
    for (at, member) in own.iter().cycle().take(40).enumerate() {
        member.set_trial(true);
        kinds.push(service.login(member, &format!("wrong-{at}")).await.unwrap_err().kind());
    }
    assert_eq!(service.refused(), 1);
    assert_eq!((kinds[0], kinds[1]), (ErrorKind::ProviderDenied, ErrorKind::Misconfigured));
    // It waits for nobody, and refuses the operator nothing.
    service.login(&operators[0], "right").await.unwrap();
    // A role of the tenant's own is its own.
    let other = identities.join("other".to_owned(), Some(LOCKOUT), &report(TenantId::random(), false));
    service.login(&other, "wrong").await.unwrap_err();
    assert_eq!(service.refused(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_login_that_hangs_or_fails_leaves_its_turn_and_its_right() {
    let service = Service::of("right");
    let identities = Identities::default();
    let operators = declared(&identities, 1);
    let member = Arc::new(identities.join("role".to_owned(), Some(LOCKOUT), &report(TenantId::random(), false)));
    let secrets = vec![("secret_id".to_owned(), Secret::copy_from(b"s"))];
    for _ in 0..3 {
        let hung = member.login::<()>(&secrets, std::future::pending());
        assert!(tokio::time::timeout(LOGIN, hung).await.is_err());
        let away = member.login::<()>(&secrets, async { Err(CallError::Timeout) }).await;
        assert_eq!(away.unwrap_err().kind(), ErrorKind::UpstreamTimeout);
    }
    service.login(&member, "right").await.unwrap();
    service.login(&operators[0], "right").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn identities_that_nobody_uses_are_forgotten() {
    let identities = Identities::<Denied>::default();
    for number in 0..3000 {
        drop(identities.join(format!("role-{number}"), Some(LOCKOUT), &report(TenantId::random(), false)));
    }
    assert!(identities.0.lock().len() <= super::MAX_UNUSED);
}

#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{advance, sleep};

use super::{Identities, Lockout, LoginIdentity, Membership};
use crate::egress::SendError;
use crate::kit::call_error::CallError;
use crate::kit::session::tests::Denied;
use crate::kit::settings::Secrets;
use crate::{ConnectionId, ErrorKind, LoginReport, ProviderKind, Secret, TenantId};

const LOCKOUT: Lockout = Lockout {
    refusals: 3,
    pause: Duration::from_secs(16 * 60),
    unclear_pause: Duration::from_secs(16 * 60),
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
        member.login(&secrets(secret), std::future::ready(Ok(())), login).await
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::Relaxed)
    }

    fn logins(&self) -> u32 {
        self.logins.load(Ordering::Relaxed)
    }
}

fn secrets(secret: &str) -> Secrets {
    vec![("secret_id".to_owned(), Secret::copy_from(secret.as_bytes()))]
}

fn role(name: &str) -> LoginIdentity {
    LoginIdentity {
        service: "https://vault.example/".to_owned(),
        identity: name.to_owned(),
        route: String::new(),
    }
}

/// A tenant's own connection.
fn own(identities: &Identities<Denied>, tenant: TenantId, login: LoginIdentity) -> Membership<Denied> {
    identities.join(login, Some(LOCKOUT), &report(tenant, false))
}

fn report(tenant: TenantId, declared: bool) -> LoginReport {
    LoginReport::new(tenant, ConnectionId::random(), ProviderKind::Vault).declared(declared)
}

fn declared(identities: &Identities<Denied>, connections: usize) -> Vec<Arc<Membership<Denied>>> {
    let join = |_| Arc::new(identities.join(role("role"), Some(LOCKOUT), &report(TenantId::random(), true)));
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
    // It is declared, and nothing has used it yet.
    let connection = ConnectionId::random();
    identities.declare(connection, Some(role("role")));
    let elsewhere = || LoginIdentity {
        service: "https://vault.example.:8200/".to_owned(),
        ..role("role")
    };
    let members: Vec<_> = (0..8)
        .map(|number| {
            let login = if number % 2 == 0 { role("role") } else { elsewhere() };
            own(&identities, TenantId::random(), login)
        })
        .collect();
    let mut kinds = Vec::new();
    for (at, member) in members.iter().cycle().take(40).enumerate() {
        member.set_trial(true);
        kinds.push(service.login(member, &format!("wrong-{at}")).await.unwrap_err().kind());
    }
    assert_eq!(service.refused(), 1);
    assert_eq!((kinds[0], kinds[1]), (ErrorKind::ProviderDenied, ErrorKind::Misconfigured));
    // It waits for nobody, and refuses the operator nothing.
    let operators = declared(&identities, 2);
    service.login(&operators[0], "right").await.unwrap();
    // A role of the tenant's own is its own.
    let other = own(&identities, TenantId::random(), role("other"));
    service.login(&other, "wrong").await.unwrap_err();
    assert_eq!(service.refused(), 2);

    // Declared once more, and with another address, it is the same identity. Released, it is not the operator's.
    let another = ConnectionId::random();
    identities.declare(another, Some(role("role")));
    identities.declare(connection, Some(elsewhere()));
    identities.declare(connection, None);
    assert_eq!(
        service.login(&members[0], "wrong").await.unwrap_err().kind(),
        ErrorKind::Misconfigured
    );
    identities.declare(another, None);
    assert_eq!(
        service.login(&members[0], "wrong").await.unwrap_err().kind(),
        ErrorKind::ProviderDenied
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_tenants_own_proxy_accepts_the_service_has_not() {
    let (service, fake) = (Service::of("right"), Service::of("wrong"));
    let identities = Identities::default();
    identities.declare(ConnectionId::random(), Some(role("role")));
    let tenant = TenantId::random();
    let route = "http://proxy.tenant.example/".to_owned();
    let through_its_proxy = own(&identities, tenant, LoginIdentity { route, ..role("role") });
    let directly = own(&identities, tenant, role("role"));
    for number in 0..8 {
        let secret = format!("wrong-{number}");
        fake.right.lock().clone_from(&secret);
        fake.login(&through_its_proxy, &secret).await.unwrap();
    }
    for number in 0..8 {
        service.login(&directly, &format!("wrong-{number}")).await.unwrap_err();
    }
    assert_eq!((fake.logins(), service.refused()), (8, 1));
}

#[tokio::test(start_paused = true)]
async fn a_login_without_a_response_counts_as_refused() {
    for declares in [true, false] {
        let identities = Identities::default();
        if declares {
            identities.declare(ConnectionId::random(), Some(role("role")));
        }
        let members: Vec<_> = (0..8).map(|_| own(&identities, TenantId::random(), role("role"))).collect();
        let members = if declares { members.iter().collect() } else { vec![&members[0]] };
        let sent = AtomicU32::new(0);
        for second in 0..900_u32 {
            let member = members[second as usize % members.len()];
            member.set_trial(true);
            let login = async {
                sent.fetch_add(1, Ordering::Relaxed);
                match second % 3 {
                    0 => std::future::pending().await,
                    1 => Err::<(), _>(CallError::Unsent(SendError::Broken("reset".to_owned()))),
                    _ => Err(CallError::Timeout),
                }
            };
            let wrong = secrets("wrong");
            let login = member.login(&wrong, std::future::ready(Ok(())), login);
            // It may also be dropped, as by a sever.
            drop(tokio::time::timeout(Duration::from_secs(1), login).await);
            advance(Duration::from_secs(1)).await;
        }
        let expected = if declares { 1 } else { LOCKOUT.refusals };
        assert_eq!(sent.load(Ordering::Relaxed), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn logins_without_a_clear_answer_have_a_pause_of_their_own() {
    let lockout = Lockout {
        unclear_pause: Duration::from_secs(60),
        ..LOCKOUT
    };
    let (unclear, refused) = (|| CallError::Timeout, || CallError::Refused(Denied));
    for (error, pause) in [(unclear as fn() -> _, lockout.unclear_pause), (refused, lockout.pause)] {
        let member = Identities::default().join(role("role"), Some(lockout), &report(TenantId::random(), true));
        let (some, sent) = (secrets("s"), AtomicU32::new(0));
        let try_once = async || {
            let login = async {
                sent.fetch_add(1, Ordering::Relaxed);
                Err::<(), _>(error())
            };
            member.login(&some, std::future::ready(Ok(())), login).await.unwrap_err();
            sent.load(Ordering::Relaxed)
        };
        for times in 1..=lockout.refusals {
            assert_eq!(try_once().await, times);
            advance(member.pause().unwrap() - Duration::from_millis(1)).await;
            assert_eq!(try_once().await, times);
            advance(Duration::from_millis(1)).await;
        }
        assert_eq!(try_once().await, lockout.refusals + 1);
        assert_eq!(member.pause(), Some(pause));
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_cuts_off_its_logins_keeps_nobody_from_theirs() {
    let service = Service::of("right");
    let members = declared(&Identities::default(), 2);
    service.login(&members[1], "right").await.unwrap();
    let right = secrets("right");
    for second in 0..8 {
        members[0].set_trial(true);
        let login = async {
            match second % 2 {
                0 => std::future::pending().await,
                _ => Err::<(), _>(CallError::from(crate::sever_switch::Severed)),
            }
        };
        let login = members[0].login(&right, std::future::ready(Ok(())), login);
        drop(tokio::time::timeout(Duration::from_secs(1), login).await);
        service.login(&members[1], "right").await.unwrap();
    }
    // Neither is it an acceptance: a secret that the service has refused since is not tried without end.
    *service.right.lock() = "another".to_owned();
    all(&service, &members, "right").await;
    assert!(service.refused() <= 2, "{} refusals", service.refused());
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_counts_as_nothing() {
    let service = Service::of("right");
    let identities = Identities::default();
    identities.declare(ConnectionId::random(), Some(role("role")));
    let operators = declared(&identities, 1);
    let member = own(&identities, TenantId::random(), role("role"));
    let some = secrets("s");
    for _ in 0..8 {
        // The service does not even say that it is there.
        let silent = member.login::<()>(&some, std::future::pending(), async { panic!("a login was sent") });
        assert!(tokio::time::timeout(LOGIN, silent).await.is_err());
        let sealed = std::future::ready(Err(CallError::Unreachable("sealed".to_owned())));
        let sealed = member.login::<()>(&some, sealed, async { panic!("a login was sent") }).await;
        assert_eq!(sealed.unwrap_err().kind(), ErrorKind::UpstreamUnavailable);
        let away = async { Err(CallError::Unsent(SendError::Unreachable("refused".to_owned()))) };
        let away = member.login::<()>(&some, std::future::ready(Ok(())), away).await;
        assert_eq!(away.unwrap_err().kind(), ErrorKind::UpstreamUnavailable);
        assert!(member.pause().is_none());
    }
    service.login(&member, "right").await.unwrap();
    service.login(&operators[0], "right").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_no_identity_is_locked_a_login_without_a_response_leaves_nothing() {
    let service = Service::of("right");
    let identities = Identities::default();
    let member = identities.join(role("role"), None, &report(TenantId::random(), true));
    let some = secrets("s");
    for _ in 0..8 {
        let ready = async { panic!("nothing is asked before") };
        let hung = member.login::<()>(&some, ready, std::future::pending());
        assert!(tokio::time::timeout(LOGIN, hung).await.is_err());
        assert!(member.pause().is_none());
    }
    service.login(&member, "right").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_the_service_may_count_is_not_forgotten() {
    let service = Service::of("right");
    let identities = Identities::default();
    for round in 0..20 {
        let member = declared(&identities, 1).remove(0);
        service.login(&member, "wrong").await.unwrap_err();
        drop(member);
        for number in 0..super::MAX_UNUSED {
            drop(own(&identities, TenantId::random(), role(&format!("role-{round}-{number}"))));
        }
        advance(Duration::from_secs(45)).await;
    }
    assert_eq!(service.refused(), LOCKOUT.refusals);
}

#[tokio::test(start_paused = true)]
async fn identities_that_nobody_uses_are_forgotten() {
    let identities = Identities::<Denied>::default();
    for number in 0..3000 {
        drop(own(&identities, TenantId::random(), role(&format!("role-{number}"))));
    }
    assert!(identities.0.known.lock().len() <= super::MAX_UNUSED);
}

#[tokio::test(start_paused = true)]
async fn refused_identities_of_tenants_are_forgotten_once_they_are_many() {
    let service = Service::of("right");
    let identities = Identities::default();
    let member = declared(&identities, 1).remove(0);
    service.login(&member, "wrong").await.unwrap_err();
    drop(member);
    let tenant = TenantId::random();
    // Within the time in which the service counts refusals.
    for number in 0..=super::MAX_COUNTED {
        let member = own(&identities, tenant, role(&format!("role-{number}")));
        service.login(&member, "wrong").await.unwrap_err();
    }
    let known = identities.0.known.lock();
    assert!(known.len() <= super::MAX_COUNTED, "{}", known.len());
    assert!(known.keys().any(|name| name.tenant.is_none()), "the operator's is kept");
}

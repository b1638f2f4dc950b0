//! Sessions that share an identity, and so wait for each other's logins.
#![allow(clippy::unwrap_used, reason = "a test stops where an expectation fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::sleep;

use super::{Identities, LoginIdentity, Membership};
use crate::kit::call_error::CallError;
use crate::kit::session::tests::Denied;
use crate::kit::session::{CredentialSource, Expiring, Session, Standing, Term};
use crate::{ConnectionId, LoginReport, LoginState, LoginWait, ProviderKind, Secret, SeverSwitch, TenantId};

/// A service whose logins take a while, and what it saw.
#[derive(Default)]
struct Slow {
    time: Duration,
    begun: AtomicU32,
    ended: AtomicU32,
}

struct Member {
    service: Arc<Slow>,
    membership: Membership<Denied>,
}

impl CredentialSource for Member {
    type Credential = Expiring<()>;
    type Refusal = Denied;

    async fn fetch(&self, _: Option<&Expiring<()>>) -> Result<Expiring<()>, CallError<Denied>> {
        let secrets = vec![("secret".to_owned(), Secret::copy_from(b"right"))];
        let login = async {
            self.service.begun.fetch_add(1, Ordering::Relaxed);
            sleep(self.service.time).await;
            self.service.ended.fetch_add(1, Ordering::Relaxed);
            Ok(Expiring {
                credential: (),
                term: Term::ENDLESS,
            })
        };
        self.membership.login(&secrets, std::future::ready(Ok(())), login).await
    }

    async fn standing(&self, _: &Expiring<()>) -> Result<Standing, CallError<Denied>> {
        Ok(Standing::Replaceable)
    }

    fn membership(&self) -> Option<&Membership<Denied>> {
        Some(&self.membership)
    }
}

fn sessions(number: usize, service: &Arc<Slow>) -> Vec<(Session<Member>, LoginReport, SeverSwitch)> {
    let identities = Identities::default();
    let session = |_| {
        let report = LoginReport::new(TenantId::random(), ConnectionId::random(), ProviderKind::Vault).declared(true);
        let switch = SeverSwitch::default();
        let source = Member {
            service: Arc::clone(service),
            membership: identities.join(LoginIdentity::default(), None, &report),
        };
        (Session::new(source, report.clone(), switch.clone()), report, switch)
    };
    (0..number).map(session).collect()
}

#[tokio::test(start_paused = true)]
async fn the_time_of_an_attempt_begins_with_its_turn() {
    let service = Arc::new(Slow {
        time: Duration::from_millis(2500),
        ..Slow::default()
    });
    // The last ones wait for 49 s, and all attempts of a login together have 16.
    let sessions = sessions(40, &service);
    let logins = sessions.iter().map(|(session, ..)| {
        let session = session.clone();
        tokio::spawn(async move { session.current(&LoginWait::default()).await.is_ok() })
    });
    let logins: Vec<_> = logins.collect();
    for login in logins {
        assert!(login.await.unwrap());
    }
    let seen = (service.begun.load(Ordering::Relaxed), service.ended.load(Ordering::Relaxed));
    assert_eq!(seen, (40, 40), "logins that began, and that ended");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_turn_has_not_failed() {
    let service = Arc::new(Slow {
        time: Duration::from_secs(3600),
        ..Slow::default()
    });
    let sessions = sessions(8, &service);
    for (session, ..) in &sessions {
        let wait = LoginWait::default();
        assert!(
            tokio::time::timeout(Duration::from_millis(10), session.current(&wait))
                .await
                .is_err()
        );
    }
    // The first one's attempts are over, and a request with a deadline of its own does not wait for ever.
    sleep(Duration::from_secs(2)).await;
    let (waiting, report, switch) = &sessions[7];
    let wait = LoginWait::default();
    assert!(tokio::time::timeout(Duration::from_secs(5), waiting.current(&wait)).await.is_err());
    assert_eq!(report.status().unwrap().state, LoginState::None);

    // What is severed while it waits, or while it logs in, leaves the turn to the others.
    switch.sever();
    switch.stopped().await;
    for (_, _, switch) in &sessions[..7] {
        switch.sever();
        switch.stopped().await;
    }
    assert_eq!(service.ended.load(Ordering::Relaxed), 0);
    let membership = &waiting.source().membership;
    let secrets = vec![("secret".to_owned(), Secret::copy_from(b"right"))];
    let login = membership.login(&secrets, std::future::ready(Ok(())), async { Ok(()) });
    tokio::time::timeout(Duration::from_millis(10), login).await.unwrap().unwrap();
}

//! A severed connection sends nothing, and what is under way ends.

use claviger_fake::{Act, Fault};
use claviger_fake_xks::Transport;
use claviger_provider::{ConnectionParts, ErrorKind, Factory, Provider, SettingsOrigin, SeverSwitch};
use claviger_testkit::connection::parts;

use crate::bench::factory;
use crate::fixture::{Fixture, context, cx, dek, kek};

#[tokio::test]
async fn nothing_is_called_and_what_is_under_way_ends() {
    for transport in [Transport::Plain, Transport::Tls] {
        let fixture = Fixture::over(transport).await;
        let parsed = factory()
            .parse(&fixture.bench.settings().to_string(), SettingsOrigin::Tenant)
            .unwrap();
        let switch = SeverSwitch::default();
        let parts = ConnectionParts {
            switch: switch.clone(),
            ..parts(&parsed.public, parsed.secrets)
        };
        let provider = factory().provider(parts).unwrap();
        let (cx, kek, dek, context) = (cx(), kek(), dek(), context());
        let wrapped = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap();
        fixture.bench.fake.switches().faults.set(vec![Fault::always("/decrypt", Act::Hang)]);
        let severing = async {
            while fixture.bodies("/decrypt").is_empty() {
                tokio::task::yield_now().await;
            }
            switch.sever();
            switch.stopped().await;
        };
        let (result, ()) = tokio::join!(provider.unwrap_key(&cx, &wrapped, &context), severing);
        assert_eq!(result.unwrap_err().kind, ErrorKind::Severed);
        fixture.bench.fake.switches().faults.set(Vec::new());
        let before = fixture.bodies("").len();
        for _ in 0..3 {
            let error = provider.unwrap_key(&cx, &wrapped, &context).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Severed);
            let error = provider.wrap_key(&cx, &kek, &dek, &context).await.unwrap_err();
            assert_eq!(error.kind, ErrorKind::Severed);
        }
        assert_eq!(fixture.bodies("").len(), before);
    }
}

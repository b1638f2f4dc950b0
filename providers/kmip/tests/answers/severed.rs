//! A severed connection sends nothing, and has nothing open.

use std::sync::Arc;
use std::time::Duration;

use claviger_provider::layers::PipelineConfig;
use claviger_provider::{Call, ErrorKind, Pipeline, Provider, Secret, SeverSwitch};
use serde_json::json;

use crate::responses::{DECRYPT, ENCRYPT};
use crate::server::{Fault, Server, context, cx, kek};

#[tokio::test]
async fn what_is_under_way_ends_and_nothing_more_is_sent() {
    let server = Server::start().await;
    let (switch, cx, context, dek) = (SeverSwitch::default(), cx(), context(), Secret::random(32));
    let provider = Arc::new(server.connect_with(&json!({}), switch.clone(), None));
    let wrapped = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap();
    server.plan(DECRYPT, Fault::Hang, 1);
    let hanging = provider.unwrap_key(&cx, &wrapped, &context);
    let sever = async {
        while server.connections_of(DECRYPT).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        switch.sever();
        switch.stopped().await;
    };
    let (hung, ()) = tokio::join!(hanging, sever);
    assert_eq!(hung.unwrap_err().kind, ErrorKind::Severed);
    let (opened, sent) = (server.opened(), server.connections_of(ENCRYPT).len());
    let error = provider.wrap_key(&cx, &kek(), &dek, &context).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Severed);
    assert_eq!((server.opened(), server.connections_of(ENCRYPT).len()), (opened, sent));
}

#[tokio::test]
async fn its_open_connections_are_closed() {
    let server = Server::start().await;
    let switch = SeverSwitch::default();
    let provider: Arc<dyn Call> = Arc::new(server.connect_with(&json!({}), switch.clone(), None));
    let pipeline = Pipeline::new(provider, &PipelineConfig::default(), switch);
    pipeline.wrap_key(&cx(), &kek(), &Secret::random(32), &context()).await.unwrap();
    assert_eq!(server.open(), 1);
    pipeline.sever();
    while server.open() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

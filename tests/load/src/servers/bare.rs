//! This very program as the bare endpoint.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use claviger_test_support::free_address;
use tokio::net::TcpStream;

use super::{Process, headers};
use crate::certs::Certs;
use crate::drive::{Ask, Target};

/// A bare endpoint at work.
pub struct Bare {
    _process: Process,
    pub target: Target,
}

impl Bare {
    /// Takes bodies like this one and answers as many bytes as `answer` has.
    pub async fn start(folder: &Path, certs: &Certs, body: Bytes, answer: usize) -> Self {
        let address = free_address();
        let log = folder.join("bare.log");
        let mut command = Command::new(std::env::current_exe().expect("this program"));
        command.args(["bare", "--listen", &address.to_string(), "--answer", &answer.to_string()]);
        command.arg("--certificate").arg(&certs.server).arg("--key").arg(&certs.server_key);
        let mut process = Process::start(&mut command, &log);
        process.ready(&log, async || TcpStream::connect(address).await.is_ok()).await;
        let ask = Ask {
            uri: "/v1/unwrap".parse().expect("a path"),
            headers: headers(None),
            body,
            answer: None,
        };
        let target = Target {
            address,
            pid: process.pid(),
            tls: certs.client_config(),
            asks: Arc::new([ask]),
        };
        Self { _process: process, target }
    }
}

//! What the calls of one tenant take of the process: sockets, and memory for responses.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{advance, pause, resume, timeout};
use wiremock::ResponseTemplate;

use super::{Client, Egress, EgressPolicy, Lookup, Options, Script, SendError, egress, get, options, server};
use crate::{SHORT_RESPONSE, SeverSwitch, Share, Shares, TenantId};

/// How long a condition is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that counts its connections, and answers once it may.
struct Counting {
    address: SocketAddr,
    counts: watch::Receiver<Counts>,
    may_answer: watch::Sender<bool>,
}

#[derive(Default, Clone, Copy, PartialEq, Eq, Debug)]
struct Counts {
    accepted: usize,
    asked: usize,
    closed: usize,
}

impl Counting {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (counting, counts) = watch::channel(Counts::default());
        let (may_answer, may) = watch::channel(false);
        let counting = Arc::new(counting);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counting.send_modify(|counts| counts.accepted += 1);
                tokio::spawn(serve(stream, Arc::clone(&counting), may.clone()));
            }
        });
        Self {
            address,
            counts,
            may_answer,
        }
    }

    fn client(&self, share: Share) -> Client {
        let egress = egress(&Script::new(&[]));
        let destination = egress.destination(&format!("http://{}", self.address)).unwrap();
        let options = Options {
            switch: SeverSwitch::default().with_share(share),
            timeout: PATIENCE,
            ..options()
        };
        egress.client(destination, options).unwrap()
    }

    async fn until(&mut self, condition: impl Fn(&Counts) -> bool) -> Counts {
        *timeout(PATIENCE, self.counts.wait_for(condition)).await.unwrap().unwrap()
    }
}

async fn serve(mut stream: TcpStream, counting: Arc<watch::Sender<Counts>>, mut may: watch::Receiver<bool>) {
    let mut request = Vec::new();
    while stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            counting.send_modify(|counts| counts.asked += 1);
            may.wait_for(|may| *may).await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }
    counting.send_modify(|counts| counts.closed += 1);
}

fn many(clients: &[Client]) -> JoinSet<bool> {
    let mut calls = JoinSet::new();
    for client in clients {
        let client = client.clone();
        calls.spawn(async move { get(&client).await.is_ok() });
    }
    calls
}

#[tokio::test]
async fn a_client_keeps_few_idle_connections() {
    let mut server = Counting::start().await;
    let client = server.client(Shares::new(1024, 1024).of(TenantId::random()));
    let calls = many(&vec![client.clone(); 40]);
    server.until(|counts| counts.asked == 40).await;
    server.may_answer.send_replace(true);
    assert!(calls.join_all().await.iter().all(|answered| *answered));
    server.until(|counts| counts.closed >= 32).await;
    get(&client).await.unwrap();
    // Another one would have been opened if those of the pool had been closed by their age.
    assert_eq!(server.until(|counts| counts.asked == 41).await.accepted, 40);
}

#[tokio::test]
async fn a_tenant_has_few_sockets_over_all_its_connections_and_others_have_theirs() {
    let mut server = Counting::start().await;
    let shares = Shares::new(1024, 64);
    let (greedy, other) = (TenantId::random(), TenantId::random());
    let clients: Vec<_> = (0..40).map(|_| server.client(shares.of(greedy))).collect();
    let mut calls = many(&clients);
    // Eight find no place.
    for _ in 0..8 {
        assert!(!calls.join_next().await.unwrap().unwrap());
    }
    server.until(|counts| counts.asked == 32).await;
    assert!(matches!(get(&clients[0]).await, Err(SendError::Crowded)));
    let others = many(&[server.client(shares.of(other))]);
    assert_eq!(server.until(|counts| counts.asked == 33).await.accepted, 33);
    server.may_answer.send_replace(true);
    assert!(others.join_all().await[0] && calls.join_all().await.iter().all(|answered| *answered));
    // Two of the clients may keep idle connections; 30 are closed with their calls.
    server.until(|counts| counts.closed >= 30).await;
}

/// Each pool has a task, which ends when the pool was given up and when nobody uses it.
#[tokio::test]
async fn the_tasks_of_pools_that_were_given_up_end() {
    let server = server("127.0.0.1:0".parse().unwrap(), ResponseTemplate::new(200)).await;
    let switch = SeverSwitch::default();
    let egress = egress(&Script::new(&[]));
    let options = Options {
        switch: switch.clone(),
        ..options()
    };
    let client = egress.client(egress.destination(&server.uri()).unwrap(), options).unwrap();
    let alive = || Handle::current().metrics().num_alive_tasks();
    let mut after = Vec::new();
    for _ in 0..20 {
        switch.renew();
        // The pool is used without a pause, and never idle.
        for _ in 0..15 {
            get(&client).await.unwrap();
            pause();
            advance(Duration::from_secs(1)).await;
            resume();
        }
        after.push(alive());
    }
    assert!(after[19] < after[5] + 5, "{after:?}");
}

#[tokio::test]
async fn a_socket_is_opened_only_with_a_place() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let share = Shares::new(1024, 4).of(TenantId::random());
    let place = share.dial(PATIENCE).await;
    let egress = egress(&Script::new(&[]));
    let destination = egress.destination(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
    let options = Options {
        switch: SeverSwitch::default().with_share(share),
        ..options()
    };
    let client = egress.client(destination, options).unwrap();
    assert!(matches!(get(&client).await, Err(SendError::Crowded)));
    let opened = timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(opened.is_err(), "a socket was opened");
    drop(place);
    let calling = tokio::spawn(async move { get(&client).await.is_ok() });
    timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    calling.abort();
}

/// A name server that says nothing, and one socket of the tenant's that may be opened at once.
#[tokio::test]
async fn no_place_is_taken_while_a_name_is_looked_up() {
    struct Silent(watch::Sender<usize>);

    #[async_trait]
    impl Lookup for Silent {
        async fn lookup(&self, _: &str) -> io::Result<Vec<IpAddr>> {
            self.0.send_modify(|asked| *asked += 1);
            std::future::pending().await
        }
    }

    let server = server("127.0.0.1:0".parse().unwrap(), ResponseTemplate::new(200)).await;
    let (asking, mut asked) = watch::channel(0);
    let policy = EgressPolicy {
        allow: vec!["127.0.0.1/32".parse().unwrap()],
        allow_plain_http: true,
    };
    let egress = Egress::with_lookup(policy, Arc::new(Silent(asking)));
    let share = Shares::new(1024, 4).of(TenantId::random());
    let made = |address: &str| {
        let options = Options {
            switch: SeverSwitch::default().with_share(share.clone()),
            connect_timeout: PATIENCE,
            timeout: PATIENCE,
            ..options()
        };
        egress.client(egress.destination(address).unwrap(), options).unwrap()
    };
    let unknown = many(&[made("http://silent.test")]);
    timeout(PATIENCE, asked.wait_for(|asked| *asked == 1)).await.unwrap().unwrap();
    get(&made(&server.uri())).await.unwrap();
    drop(unknown);
}

/// A server that announces a long response, sends nearly all of it, and then is silent.
#[tokio::test]
async fn few_long_responses_are_read_at_once_and_short_ones_meanwhile() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (taking, mut taken) = watch::channel(0);
    let taking = Arc::new(taking);
    let length = 16 << 20;
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let taking = Arc::clone(&taking);
            tokio::spawn(async move {
                // A response before the request is none.
                stream.read_exact(&mut [0; 4]).await.unwrap();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all(head.as_bytes()).await.unwrap();
                // More than sockets buffer is taken only by who reads it.
                stream.write_all(&vec![b' '; length - 1]).await.unwrap();
                taking.send_modify(|taken| *taken += 1);
                std::future::pending::<()>().await;
            });
        }
    });
    let share = Shares::new(1024, 1024).of(TenantId::random());
    let made = |address: SocketAddr| {
        let egress = egress(&Script::new(&[]));
        let destination = egress.destination(&format!("http://{address}")).unwrap();
        let switch = SeverSwitch::default().with_share(share.clone());
        let options = Options {
            switch,
            timeout: PATIENCE,
            max_response: length,
            ..options()
        };
        egress.client(destination, options).unwrap()
    };
    let mut calls = many(&vec![made(address); 12]);
    timeout(PATIENCE, taken.wait_for(|taken| *taken == 4)).await.unwrap().unwrap();
    let body = ResponseTemplate::new(200).set_body_bytes(vec![b' '; SHORT_RESPONSE]);
    let short = server("127.0.0.1:0".parse().unwrap(), body).await;
    let client = made(*short.address());
    assert_eq!(get(&client).await.unwrap().body.len(), SHORT_RESPONSE);
    let limited = client.with_max_response(SHORT_RESPONSE - 1);
    assert!(matches!(get(&limited).await, Err(SendError::TooLong)));
    let unread = get(&made(address)).await.map(|response| response.body.len());
    assert!(matches!(unread, Err(SendError::Unread)), "{unread:?}");
    assert_eq!(*taken.borrow(), 4, "no other one is read");
    calls.abort_all();
}

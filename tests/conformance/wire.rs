//! A caller's connection that says which bytes of an answer arrived after a moment.

use std::cell::{Cell, RefCell};

use tokio::net::TcpStream;

/// A connection over plain HTTP/1.1, for one request at a time.
pub struct Wire {
    stream: TcpStream,
    /// The lines that each request begins with, behind its first.
    head: String,
    /// What has arrived since the latest request.
    read: RefCell<Vec<u8>>,
    /// How much had arrived at the moment.
    before: Cell<Option<usize>>,
}

/// An answer on the wire.
pub struct Wired {
    pub status: u16,
    pub text: String,
    /// The bytes that arrived after the moment, if it was after the request was sent.
    pub late: usize,
}

impl Wire {
    /// Of who has this token, in this tenant.
    pub async fn connect(address: std::net::SocketAddr, token: &str, tenant: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("it is open");
        Self {
            stream,
            head: format!(
                "host: {address}\r\nauthorization: Bearer {token}\r\nclaviger-tenant: {tenant}\r\ncontent-type: application/json\r\n"
            ),
            read: RefCell::default(),
            before: Cell::new(None),
        }
    }

    /// The moment: what the kernel has by now is before it.
    pub fn moment(&self) {
        self.take();
        self.before.set(Some(self.read.borrow().len()));
    }

    /// Sends a request and reads its answer.
    pub async fn post(&self, path: &str, body: &str) -> Wired {
        self.read.borrow_mut().clear();
        self.before.set(None);
        let request = format!("POST {path} HTTP/1.1\r\n{}content-length: {}\r\n\r\n{body}", self.head, body.len());
        let mut left = request.as_bytes();
        while !left.is_empty() {
            self.stream.writable().await.expect("it is open");
            match self.stream.try_write(left) {
                Ok(count) => left = &left[count..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("the gateway closed the connection: {error}"),
            }
        }
        loop {
            self.stream.readable().await.expect("it is open");
            let is_open = self.take();
            if let Some((status, text)) = self.whole() {
                let late = self.before.get().map_or(0, |before| self.read.borrow().len() - before);
                return Wired { status, text, late };
            }
            assert!(is_open, "the gateway closed the connection");
        }
    }

    /// Takes what has arrived; whether more can.
    fn take(&self) -> bool {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.try_read(&mut bytes) {
                Ok(0) => return false,
                Ok(count) => self.read.borrow_mut().extend_from_slice(&bytes[..count]),
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    }

    /// Status and body, once all of the answer has arrived.
    fn whole(&self) -> Option<(u16, String)> {
        let read = self.read.borrow();
        let text = std::str::from_utf8(&read).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.expect("a length").parse().expect("a number");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        (body.len() == length).then(|| (status, body.to_owned()))
    }
}

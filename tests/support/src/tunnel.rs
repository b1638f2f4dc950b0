//! A proxy as `proxy` of a connection names one.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

/// Starts a proxy that tunnels every CONNECT to one server; returns its address and the requests that it got. It stops
/// with the test's runtime.
///
/// # Panics
/// When it cannot listen.
pub async fn tunnels_to(server: SocketAddr) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a listener");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let journal = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let journal = Arc::clone(&journal);
            // The tunnel ends when either side closes.
            tokio::spawn(async move { drop(tunnel(client, server, &journal).await) });
        }
    });
    (address, asked)
}

async fn tunnel(client: TcpStream, server: SocketAddr, journal: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut client = BufReader::new(client);
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if client.read_line(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let first = request.lines().next().unwrap_or_default().to_owned();
    journal.lock().expect("a journal").push(first);
    let mut server = TcpStream::connect(server).await?;
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
    copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}

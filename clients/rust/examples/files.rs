//! Encrypts or decrypts a file: files encrypt|decrypt SOURCE TARGET. Run it with the variables that `claviger dev` prints.
//!
//! `tests/files` has the same program for each client, and lets each open the files of the others.

use claviger_client::Client;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let claviger = Client::from_env()?;
    let context = [("table", "orders")];
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["encrypt", source, target] => claviger.encrypt_file("orders", source, target).context(context).await?,
        ["decrypt", source, target] => claviger.decrypt_file(source, target).context(context).await?,
        _ => return Err("encrypt SOURCE TARGET, or decrypt SOURCE TARGET".into()),
    }
    Ok(())
}

//! The parts of the README, one after the other. Run it with the variables that `claviger dev` prints, after `first_steps`.
#![allow(clippy::print_stdout, missing_docs, reason = "an example shows what it does, to a test, too")]

use std::time::Duration;

use claviger_client::models::{KeyState, UnwrapItem};
use claviger_client::{Client, ErrorKind, Result};

#[tokio::main]
pub async fn main() -> Result<()> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let address = variable("CLAVIGER_ADDRESS");
    let token_file = variable("CLAVIGER_TOKEN_FILE");
    let claviger = Client::builder(address) // https://claviger.example:8420
        .token_file(token_file) // or token, or token_function with a function that returns one
        .timeout(Duration::from_secs(10)) // for each call with all its retries
        .build()?;
    let claviger = match variable("CLAVIGER_TENANT") {
        tenant if tenant.is_empty() => claviger,
        tenant => claviger.with_tenant(tenant),
    };
    let data_key = claviger.generate_data_key("documents").context([("table", "orders")]).await?;

    let items = [
        UnwrapItem::new(&data_key.wrapped),
        UnwrapItem::new(&data_key.wrapped).context([("table", "orders")]),
    ];
    for result in claviger.batch_unwrap(items).await? {
        match result {
            Ok(item) => println!("{} bytes", item.plaintext.len()),
            Err(item) => println!("{}", item.error.code()), // ciphertext_rejected: the context is missing
        }
    }

    let key = claviger.get_key("documents").await?;
    println!("{}", key.state == KeyState::Enabled); // treat what is not known as unusable

    let patient = claviger.with_justification("Ticket 4711").with_timeout(Duration::from_secs(60));
    println!("{}", patient.who_am_i().await?.prefix.is_empty());

    let folder = std::env::temp_dir().join(format!("claviger-tour-{}", std::process::id()));
    let in_folder = |name: &str| folder.join(name);
    let prepared = std::fs::create_dir(&folder).and_then(|()| std::fs::write(in_folder("report.txt"), "content"));
    println!("{}", prepared.is_ok());
    let (plain, encrypted, again) = (in_folder("report.txt"), in_folder("report.txt.clv"), in_folder("again.txt"));
    claviger
        .encrypt_file("documents", &plain, &encrypted)
        .context([("table", "orders")])
        .await?;
    claviger.decrypt_file(&encrypted, &again).context([("table", "orders")]).await?;
    println!("{:?}", std::fs::read_to_string(&again).ok());
    println!("{}", std::fs::remove_dir_all(&folder).is_ok());

    claviger.disable_key("documents").await?;
    match claviger.unwrap(&data_key.wrapped).context([("table", "orders")]).await {
        Ok(_) => println!("it is enabled"),
        Err(error) if error.kind() == ErrorKind::KeyUnusable => println!("{}", error.code()), // key_disabled: its owner switched it off
        Err(error) if error.kind() == ErrorKind::CiphertextRejected => println!("another context, key or tenant"),
        Err(error) => println!("{error}"), // with what to do, and the id of the request
    }
    Ok(())
}

//! The first steps: a key, and a data key of it. Run it with the variables that `claviger dev` prints.
#![allow(clippy::print_stdout, missing_docs, reason = "an example shows what it does, to a test, too")]

use claviger_client::{Client, Result};

#[tokio::main]
pub async fn main() -> Result<()> {
    let claviger = Client::from_env()?;
    claviger.create_key("documents", "embedded").await?;
    let data_key = claviger.generate_data_key("documents").context([("table", "orders")]).await?;
    // Encrypt with data_key.plaintext, store data_key.wrapped beside the result, and later:
    let again = claviger.unwrap(&data_key.wrapped).context([("table", "orders")]).await?;
    println!("{}", data_key.plaintext == Some(again.plaintext));

    let mut keys = claviger.list_keys().items();
    while let Some(key) = keys.next().await {
        println!("{}", key?.name);
    }
    Ok(())
}

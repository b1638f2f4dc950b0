//! The command `notes`: write NAME takes a text from the input, read NAME prints it.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use claviger_client::Client;
use notes::{Failure, Notes};

const REFUSED: u8 = 1;
const OTHER: u8 = 2;
const KEY_IS_OFF: u8 = 3;
const LATER: u8 = 4;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (code, message) = match run().await {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Refused(detail)) => (REFUSED, detail),
        Err(Failure::Other(detail)) => (OTHER, detail),
        Err(Failure::KeyIsOff(error)) => (KEY_IS_OFF, format!("the key is switched off: {error}")),
        Err(Failure::Later(error)) => (LATER, format!("try again later: {error}")),
    };
    eprintln!("notes: {message}");
    ExitCode::from(code)
}

async fn run() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let notes = Notes::new(Client::from_env()?, "notes");
    let failed = |error: io::Error| Failure::Other(error.to_string());
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", name] => {
            let mut text = Vec::new();
            io::stdin().read_to_end(&mut text).map_err(failed)?;
            notes.write(name, &text).await
        }
        ["read", name] => io::stdout().write_all(&notes.read(name).await?).map_err(failed),
        _ => Err(Failure::Other("write NAME, or read NAME".to_owned())),
    }
}

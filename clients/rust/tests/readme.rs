//! The programs of the README run as it says, against a real gateway.
//!
//! It is started again by itself to run them, since they read the environment, which a process cannot change safely.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops where an expectation fails")]

#[path = "suite/acme.rs"]
mod acme;
#[path = "../examples/first_steps.rs"]
mod first_steps;
#[path = "../examples/tour.rs"]
mod tour;

use std::process::Command;

use libtest_mimic::{Arguments, Trial};

const README: &str = include_str!("../README.md");
const FIRST_STEPS: &str = include_str!("../examples/first_steps.rs");
const TOUR: &str = include_str!("../examples/tour.rs");
/// Set where this process is to be one of the programs.
const PROGRAM: &str = "CLAVIGER_TEST_README_PROGRAM";

fn main() {
    match std::env::var(PROGRAM).as_deref() {
        Ok("first_steps") => first_steps::main().unwrap(),
        Ok(_) => tour::main().unwrap(),
        Err(_) => {
            let trials = vec![
                Trial::test("the_programs_run", || {
                    programs_run();
                    Ok(())
                }),
                Trial::test("the_readme_has_parts_of_them", || {
                    parts_are_of_programs();
                    Ok(())
                }),
            ];
            libtest_mimic::run(&Arguments::from_args(), trials).exit();
        }
    }
}

fn programs_run() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let acme = runtime.block_on(acme::Acme::start());
    let run = |program: &str| {
        let done = Command::new(std::env::current_exe().unwrap())
            .env(PROGRAM, program)
            .env("CLAVIGER_ADDRESS", acme.address())
            .env("CLAVIGER_TOKEN_FILE", acme.folder.token_file())
            .env("CLAVIGER_TENANT", "acme")
            .output()
            .unwrap();
        assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    };
    assert_eq!(run("first_steps"), "true\ndocuments\norders\n");
    let printed = "ciphertext_rejected\n32 bytes\ntrue\nfalse\ntrue\nSome(\"content\")\ntrue\nkey_disabled\n";
    assert_eq!(run("tour"), printed);
}

/// Its lines without indentation.
fn lines(text: &str) -> Vec<&str> {
    text.trim().lines().map(str::trim).collect()
}

fn parts_are_of_programs() {
    let blocks: Vec<&str> = README
        .split("```rust\n")
        .skip(1)
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(blocks.len() >= 6);
    // It is public for this test.
    let first_steps = FIRST_STEPS.replace("pub async fn main", "async fn main");
    assert!(first_steps.ends_with(blocks[0]), "the first block is not examples/first_steps.rs");
    let tour = lines(TOUR);
    for block in &blocks[1..] {
        let part = lines(block);
        assert!(
            tour.windows(part.len()).any(|lines| lines == part),
            "examples/tour.rs has no such lines:\n{block}"
        );
    }
}

//! What is committed is what the generator writes.

use std::path::Path;
use std::process::Command;

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn what_is_generated_is_what_the_document_says() {
    let checked = Command::new("python3")
        .arg(folder().join("generate.py"))
        .arg("--check")
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// The licence is in the package.
#[test]
fn the_licence_is_that_of_the_project() {
    let read = |path: &str| std::fs::read_to_string(folder().join(path)).unwrap();
    assert_eq!(read("LICENSE"), read("../../LICENSE"));
}

#[test]
fn the_package_has_the_sources_and_what_explains_them() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let listed = Command::new(cargo)
        .args([
            "package",
            "--list",
            "--allow-dirty",
            "--offline",
            "--locked",
            "--package",
            "claviger-client",
        ])
        .current_dir(folder())
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let text = String::from_utf8(listed.stdout).unwrap();
    let files: Vec<&str> = text.lines().collect();
    for needed in [
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "src/lib.rs",
        "src/generated/models/keys.rs",
        "examples/first_steps.rs",
    ] {
        assert!(files.contains(&needed), "{needed} is not in the package: {files:?}");
    }
    let stray = files.iter().filter(|file| file.ends_with(".py") || file.starts_with("tests/"));
    assert_eq!(stray.count(), 0, "{files:?}");
}

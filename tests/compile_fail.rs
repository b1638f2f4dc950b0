//! What must not compile: acting on another object than the one that was authorized, recording
//! another action, and making or copying an authorization.

#[test]
fn an_authorization_cannot_be_bent() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}

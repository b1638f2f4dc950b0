//! The settings of a connection for each provider, in the OpenAPI document. The provider parses them
//! (`providers/*/src/settings.rs`). Those of the operator alone are not here: the API refuses them.
#![allow(dead_code, reason = "the document shows them")]

use utoipa::ToSchema;

/// Settings of a connection to the embedded provider. It has none.
#[derive(ToSchema)]
pub struct LocalSettings {}

/// Settings of a connection to AWS KMS.
#[derive(ToSchema)]
pub struct AwsSettings {
    /// The region's code.
    region: String,
    /// Whether to use the region's endpoints that are validated under FIPS 140. Default: false.
    fips: Option<bool>,
    /// The identity that signs the calls.
    auth: AwsAuth,
    /// CA certificates as PEM text that are trusted instead of the system's.
    ca: Option<String>,
    /// Address of an HTTP proxy, without a user.
    proxy: Option<String>,
}

/// The identity of a connection to AWS KMS: exactly one member.
#[derive(ToSchema)]
pub struct AwsAuth {
    /// An access key.
    r#static: Option<AwsAccessKey>,
    /// A role that the base identity assumes with the connection's external id.
    assume_role: Option<AwsAssumeRole>,
}

/// An access key of AWS.
#[derive(ToSchema)]
pub struct AwsAccessKey {
    /// The access key's id.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    access_key_id: String,
    /// The access key's secret.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    secret_access_key: String,
    /// The token of a session.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    session_token: Option<String>,
}

/// A role that is assumed.
#[derive(ToSchema)]
pub struct AwsAssumeRole {
    /// The role's ARN.
    role_arn: String,
    /// The identity that assumes it.
    base: AwsBase,
}

/// The identity that assumes a role: exactly one member.
#[derive(ToSchema)]
pub struct AwsBase {
    /// An access key.
    r#static: Option<AwsAccessKey>,
}

/// Settings of a connection to Azure Key Vault or a Managed HSM.
#[derive(ToSchema)]
pub struct AzureSettings {
    /// The vault's address.
    vault: String,
    /// How AES keys of a Managed HSM wrap. Default: `A256KW`. Not for a Key Vault.
    aes_algorithm: Option<AzureAesAlgorithm>,
    /// Whether new RSA keys of a Key Vault are created in its HSM. Default: false.
    hsm: Option<bool>,
    /// The identity of the calls.
    auth: AzureAuth,
    /// CA certificates as PEM text that are trusted instead of the system's.
    ca: Option<String>,
    /// Address of an HTTP proxy, without a user.
    proxy: Option<String>,
}

/// How AES keys of a Managed HSM wrap.
#[derive(ToSchema)]
pub enum AzureAesAlgorithm {
    /// AES key wrap.
    #[schema(rename = "A256KW")]
    KeyWrap,
    /// AES-GCM.
    #[schema(rename = "A256GCM")]
    Gcm,
}

/// The identity of a connection to Azure: exactly one member.
#[derive(ToSchema)]
pub struct AzureAuth {
    /// An application with a client secret.
    client_secret: Option<AzureClientSecret>,
    /// An application with a certificate.
    client_certificate: Option<AzureClientCertificate>,
    /// An application with a token of another issuer.
    workload_identity: Option<AzureWorkloadIdentity>,
    /// The operator's application, which the customer's directory has admitted.
    application: Option<AzureApplication>,
    /// A token, which is never renewed.
    r#static: Option<AzureStaticToken>,
}

/// An application with a client secret.
#[derive(ToSchema)]
pub struct AzureClientSecret {
    /// The directory's (tenant's) id, a UUID.
    directory: String,
    /// The application's (client) id, a UUID.
    client_id: String,
    /// The value of one of the application's client secrets.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    secret: String,
}

/// An application with an RSA certificate.
#[derive(ToSchema)]
pub struct AzureClientCertificate {
    /// The directory's (tenant's) id, a UUID.
    directory: String,
    /// The application's (client) id, a UUID.
    client_id: String,
    /// The certificate as PEM text, followed by its chain.
    #[schema(extensions(("x-secret" = json!(true))))]
    certificate: String,
    /// The certificate's private RSA key as PEM text, not encrypted.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    key: String,
}

/// An application with a token of another issuer.
#[derive(ToSchema)]
pub struct AzureWorkloadIdentity {
    /// The directory's (tenant's) id, a UUID.
    directory: String,
    /// The application's (client) id, a UUID.
    client_id: String,
    /// The token.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    token: String,
}

/// The operator's application.
#[derive(ToSchema)]
pub struct AzureApplication {
    /// The id of the directory that has admitted it, a UUID.
    directory: String,
}

/// A token of Azure.
#[derive(ToSchema)]
pub struct AzureStaticToken {
    /// The token.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    token: String,
}

/// Settings of a connection to Google Cloud KMS.
#[derive(ToSchema)]
pub struct GcpSettings {
    /// The key ring's name.
    key_ring: String,
    /// The protection level of created keys. Default: `software`.
    protection_level: Option<GcpProtectionLevel>,
    /// Whether data keys come from the HSM's random generator. Default: false.
    hsm_random: Option<bool>,
    /// The identity of the calls.
    auth: GcpAuth,
}

/// The protection level of created keys.
///
/// - `software`: in software
/// - `hsm`: in an HSM
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[allow(
    missing_docs,
    reason = "the type's text describes each word; the OpenAPI document shows that text alone"
)]
pub enum GcpProtectionLevel {
    Software,
    Hsm,
}

/// The identity of a connection to Google Cloud: exactly one member.
#[derive(ToSchema)]
pub struct GcpAuth {
    /// The key of a service account: the JSON file that Google created.
    service_account_key: Option<GcpServiceAccountKey>,
    /// A workload of a workload identity pool.
    workload_identity: Option<GcpWorkloadIdentity>,
    /// An OAuth 2 access token, which is never renewed.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    token: Option<String>,
    /// A service account that the base identity impersonates.
    impersonate: Option<GcpImpersonate>,
}

/// The key file of a service account. Its URLs must be Google's own and are never used.
#[derive(ToSchema)]
pub struct GcpServiceAccountKey {
    /// `service_account`.
    r#type: Option<String>,
    /// The project's id.
    project_id: Option<String>,
    /// The key's id.
    private_key_id: String,
    /// The private key as PEM text (PKCS#8).
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    private_key: String,
    /// The account's address.
    client_email: String,
    /// The account's number.
    client_id: Option<String>,
    /// Google's own address.
    auth_uri: Option<String>,
    /// Google's own address.
    token_uri: Option<String>,
    /// Google's own address.
    auth_provider_x509_cert_url: Option<String>,
    /// Google's own address.
    client_x509_cert_url: Option<String>,
    /// `googleapis.com`.
    universe_domain: Option<String>,
}

/// A workload of a workload identity pool.
#[derive(ToSchema)]
pub struct GcpWorkloadIdentity {
    /// The pool provider's audience.
    audience: String,
    /// The workload's token, a JWT of the issuer that the pool's provider trusts.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    subject_token: String,
}

/// A service account that is impersonated.
#[derive(ToSchema)]
pub struct GcpImpersonate {
    /// The account's address.
    service_account: String,
    /// The identity that impersonates it.
    base: GcpBase,
}

/// The identity that impersonates a service account: exactly one member.
#[derive(ToSchema)]
pub struct GcpBase {
    /// The key of a service account: the JSON file that Google created.
    service_account_key: Option<GcpServiceAccountKey>,
    /// A workload of a workload identity pool.
    workload_identity: Option<GcpWorkloadIdentity>,
    /// An OAuth 2 access token, which is never renewed.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    token: Option<String>,
}

/// Settings of a connection to Vault or OpenBao Transit.
#[derive(ToSchema)]
pub struct VaultSettings {
    /// The server's address, with the path before `/v1` if there is one.
    address: String,
    /// The namespace. Left out: the root namespace.
    namespace: Option<String>,
    /// The Transit engine's mount. Default: `transit`.
    mount: Option<String>,
    /// The type of the keys behind the specification `aes-256`. Default: `aes256-gcm96`.
    symmetric_key_type: Option<VaultKeyType>,
    /// How the connection gets its token.
    auth: VaultAuth,
    /// CA certificates as PEM text that are trusted instead of the system's.
    ca: Option<String>,
    /// Address of an HTTP proxy, without a user.
    proxy: Option<String>,
}

/// The type of symmetric Transit keys.
#[derive(ToSchema)]
pub enum VaultKeyType {
    /// AES-256 in GCM.
    #[schema(rename = "aes256-gcm96")]
    Aes256Gcm96,
    /// ChaCha20-Poly1305.
    #[schema(rename = "chacha20-poly1305")]
    ChaCha20Poly1305,
}

/// How a connection to Vault gets its token: exactly one member.
#[derive(ToSchema)]
pub struct VaultAuth {
    /// A token.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    token: Option<String>,
    /// A role and its secret id.
    approle: Option<VaultAppRole>,
    /// A JWT. The mount is `jwt` by default.
    jwt: Option<VaultJwt>,
    /// A service account's JWT. The mount is `kubernetes` by default.
    kubernetes: Option<VaultJwt>,
    /// A client certificate.
    cert: Option<VaultCertificate>,
}

/// A role of Vault and its secret id.
#[derive(ToSchema)]
pub struct VaultAppRole {
    /// The role's id.
    role_id: String,
    /// A secret id of the role.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    secret_id: String,
    /// The method's mount. Default: `approle`.
    mount: Option<String>,
}

/// A role of Vault and a JWT.
#[derive(ToSchema)]
pub struct VaultJwt {
    /// The role's name.
    role: String,
    /// The JWT. When it has expired, the connection can no longer log in.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    jwt: String,
    /// The method's mount. By default it has the method's name.
    mount: Option<String>,
}

/// A client certificate for a login at Vault.
#[derive(ToSchema)]
pub struct VaultCertificate {
    /// The certificate as PEM text, followed by its chain.
    #[schema(extensions(("x-secret" = json!(true))))]
    certificate: String,
    /// The certificate's private key as PEM text, not encrypted.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    key: String,
    /// The role's name. Left out: the server tries all of them.
    name: Option<String>,
    /// The method's mount. Default: `cert`.
    mount: Option<String>,
}

/// Settings of a connection to an external key manager behind an XKS proxy.
#[derive(ToSchema)]
pub struct XksSettings {
    /// The proxy's address, with the path prefix, without `/kms/xks/v1`.
    address: String,
    /// The region that the proxy expects in signatures.
    region: String,
    /// The time of one call in milliseconds. Default: 250.
    #[schema(minimum = 50, maximum = 10000)]
    budget_ms: Option<u32>,
    /// The id of an external key for nothing but the gateway's own tries.
    canary_key: Option<String>,
    /// How requests are authenticated.
    auth: XksAuth,
    /// CA certificates as PEM text that are trusted instead of the system's.
    ca: Option<String>,
    /// Address of an HTTP proxy, without a user.
    proxy: Option<String>,
}

/// How requests to an XKS proxy are authenticated.
#[derive(ToSchema)]
pub struct XksAuth {
    /// By a signature of each request.
    sigv4: XksSigv4,
}

/// What signs requests to an XKS proxy.
#[derive(ToSchema)]
pub struct XksSigv4 {
    /// The access key's id.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    access_key_id: String,
    /// The access key's secret.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    secret_access_key: String,
    /// A second access key, which takes over if the proxy refuses the first.
    second: Option<XksAccessKey>,
    /// A client certificate for mutual TLS.
    client_certificate: Option<ClientCertificate>,
}

/// An access key of an XKS proxy.
#[derive(ToSchema)]
pub struct XksAccessKey {
    /// The access key's id.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    access_key_id: String,
    /// The access key's secret.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    secret_access_key: String,
}

/// A client certificate for mutual TLS.
#[derive(ToSchema)]
pub struct ClientCertificate {
    /// The certificate as PEM text, followed by its chain.
    #[schema(extensions(("x-secret" = json!(true))))]
    certificate: String,
    /// The certificate's private key as PEM text, not encrypted.
    #[schema(format = Password, extensions(("x-secret" = json!(true))))]
    key: String,
}

/// Settings of a connection to a key manager that speaks KMIP.
#[derive(ToSchema)]
pub struct KmipSettings {
    /// Host and port of the key manager.
    address: String,
    /// How the connection authenticates.
    auth: KmipAuth,
    /// CA certificates as PEM text that are trusted instead of the system's.
    ca: Option<String>,
    /// The time of one call in milliseconds. Default: 250.
    #[schema(minimum = 50, maximum = 10000)]
    budget_ms: Option<u32>,
    /// The Unique Identifier of a key for nothing but the gateway's own tries.
    canary_key: Option<String>,
    /// The only version of KMIP to speak: `1.4` or `2.0`.
    #[schema(pattern = "^(1\\.4|2\\.0)$")]
    protocol_version: Option<String>,
    /// Whether the server makes the initialization vectors. Default: false.
    server_iv: Option<bool>,
    /// Whether requests have a Client Correlation Value. Default: false.
    correlation: Option<bool>,
}

/// How a connection to a key manager authenticates.
#[derive(ToSchema)]
pub struct KmipAuth {
    /// With a client certificate.
    cert: ClientCertificate,
}

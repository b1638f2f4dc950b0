"""Every call that the adapter for Azure makes, and the rest of the fake, made by Microsoft's own
clients, which know nothing of us: the one for Python here, and the one for Go as the program that the
command line names. Python's CryptographyClient computes with public keys by itself, so
what it encrypts must open in the fake, and the other way round."""

import datetime
import hashlib
import json
import pathlib
import ssl
import subprocess
import sys
import urllib.request
import uuid

from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.identity import CertificateCredential, ClientAssertionCredential, ClientSecretCredential
from azure.keyvault.keys import ApiVersion, JsonWebKey, KeyClient, KeyOperation, KeyRotationLifetimeAction, KeyRotationPolicy, KeyRotationPolicyAction
from azure.keyvault.keys.crypto import CryptographyClient, EncryptionAlgorithm, KeyWrapAlgorithm
from cryptography import x509
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

START = pathlib.Path(__file__).parents[2] / "backends" / "azure" / "start"
DIRECTORY = "11111111-2222-3333-4444-555555555555"
OAEP = {
    KeyWrapAlgorithm.rsa_oaep: hashes.SHA1,
    KeyWrapAlgorithm.rsa_oaep_256: hashes.SHA256,
}


class Token:
    """A token that nobody gave out: the fake takes any."""

    def __init__(self, token="a-token"):
        self.token = token

    def get_token(self, *scopes, **_):
        assert scopes, "no scope"
        return AccessToken(self.token, 4_000_000_000)


class Fake:
    """The program, and clients of it."""

    def __init__(self):
        self.program = subprocess.Popen([START], stdout=subprocess.PIPE, text=True)
        told = {}
        for line in self.program.stdout:
            if line == "# ready\n":
                break
            name, value = line.rstrip("\n").split("=", 1)
            told[name] = value
        self.vault = told["CLAVIGER_TEST_FAKE_AZURE_ADDRESS"]
        self.hsm = self.vault.replace("127.0.0.1", "localhost")
        self.ca = told["CLAVIGER_TEST_FAKE_AZURE_CA"]

    def stop(self):
        self.program.terminate()
        self.program.wait()

    def options(self, **more):
        return {"verify_challenge_resource": False, "connection_verify": self.ca, "retry_total": 0, **more}

    def keys(self, url=None, credential=None, **more):
        return KeyClient(url or self.vault, credential or Token(), **self.options(**more))

    def crypto(self, key, credential=None):
        """Of a key's id, so that the client asks for the public half and computes where it can."""
        return CryptographyClient(key.id, credential or Token(), **self.options())

    def remote(self, key):
        """One that the client cannot compute with by itself: the service is asked for everything."""
        client = self.crypto(key)
        client._keys_get_forbidden = True
        return client

    def control(self, path, body, method="PUT"):
        context = ssl.create_default_context(cafile=self.ca)
        request = urllib.request.Request(
            f"{self.vault}/_fake/{path}", json.dumps(body).encode() if body is not None else None, {"Content-Type": "application/json"}, method=method
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        with opener.open(request) as answer:
            text = answer.read()
        return json.loads(text) if text else None

    def authority(self):
        return self.vault.removeprefix("https://")


def name():
    return f"key-{uuid.uuid4().hex}"


def refused(kind, code, call, inner=None):
    """The client's own exception, with Azure's code in it."""
    try:
        call()
    except kind as error:
        assert error.error is None or error.error.code == code, (code, error.error and error.error.code)
        told = error.error and error.error.innererror
        assert inner is None or told["code"] == inner, (inner, told)
        return
    raise AssertionError(f"{code} was expected")


def test_rsa_keys_are_made_and_read(fake):
    client = fake.keys()
    for size, hardware in [(2048, False), (3072, False), (4096, False), (3072, True)]:
        made = client.create_rsa_key(
            name(), size=size, hardware_protected=hardware, key_operations=[KeyOperation.wrap_key, KeyOperation.unwrap_key], tags={"a": "b"}
        )
        assert made.key_type == ("RSA-HSM" if hardware else "RSA"), made.key_type
        assert len(made.key.n) * 8 == size and made.properties.tags == {"a": "b"}
        assert len(made.properties.version) == 32 and made.properties.vault_url == fake.vault
        read = client.get_key(made.name)
        assert (read.id, read.key.n, read.key_operations) == (made.id, made.key.n, ["wrapKey", "unwrapKey"])
        assert client.get_key(made.name, made.properties.version).id == made.id
        assert read.properties.enabled and read.properties.created_on and read.properties.recoverable_days == 90
    refused(ResourceNotFoundError, "KeyNotFound", lambda: client.get_key(name()))
    refused(ResourceNotFoundError, "KeyNotFound", lambda: client.get_key(made.name, "0" * 32))


def test_names_know_no_upper_case(fake):
    client = fake.keys()
    made = client.create_rsa_key("Upper-" + name(), size=2048)
    assert client.get_key(made.name.lower()).id == made.id


def test_what_the_client_wraps_by_itself_the_fake_unwraps(fake):
    key = fake.keys().create_rsa_key(name(), size=3072)
    local, remote = fake.crypto(key), fake.remote(key)
    for algorithm in OAEP:
        for size in (1, 32, 64):
            secret = b"\x00" * (size - 1) + b"\x07"
            before = len(fake.control("journal", None, "GET"))
            wrapped = local.wrap_key(algorithm, secret)
            after = [asked["path"] for asked in fake.control("journal", None, "GET")[before:]]
            assert not any("wrapkey" in path for path in after), "the client asked the service"
            opened = remote.unwrap_key(algorithm, wrapped.encrypted_key)
            assert opened.key == secret and opened.key_id == key.id


def test_what_the_fake_wraps_a_private_key_of_ours_opens(fake):
    private = rsa.generate_private_key(65537, 3072)
    numbers = private.private_numbers()
    as_bytes = lambda number: number.to_bytes((number.bit_length() + 7) // 8, "big")
    jwk = JsonWebKey(
        kty="RSA", key_ops=["wrapKey", "unwrapKey", "encrypt", "decrypt"], n=as_bytes(numbers.public_numbers.n), e=as_bytes(numbers.public_numbers.e),
        d=as_bytes(numbers.d), p=as_bytes(numbers.p), q=as_bytes(numbers.q), dp=as_bytes(numbers.dmp1), dq=as_bytes(numbers.dmq1), qi=as_bytes(numbers.iqmp),
    )
    key = fake.keys().import_key(name(), jwk)
    assert key.key.n == jwk.n
    remote = fake.remote(key)
    for algorithm, digest in OAEP.items():
        scheme = padding.OAEP(padding.MGF1(digest()), digest(), None)
        wrapped = remote.wrap_key(algorithm, b"a data key")
        assert private.decrypt(wrapped.encrypted_key, scheme) == b"a data key"
        opened = remote.unwrap_key(algorithm, private.public_key().encrypt(b"the other way", scheme))
        assert opened.key == b"the other way"
        name_of = EncryptionAlgorithm(algorithm.value)
        assert remote.decrypt(name_of, remote.encrypt(name_of, b"bytes").ciphertext).plaintext == b"bytes"
    flipped = bytearray(wrapped.encrypted_key)
    flipped[7] ^= 1
    refused(HttpResponseError, "BadParameter", lambda: remote.unwrap_key(algorithm, bytes(flipped)))


def test_aes_keys_of_a_managed_hsm_wrap(fake):
    client = fake.keys(fake.hsm)
    for bits, algorithm in [(128, KeyWrapAlgorithm.aes_128), (256, KeyWrapAlgorithm.aes_256)]:
        material = hashlib.sha256(bytes([bits // 8])).digest()[: bits // 8]
        key = client.import_key(name(), JsonWebKey(kty="oct-HSM", k=material, key_ops=["wrapKey", "unwrapKey"]))
        assert key.key_type == "oct-HSM" and key.key.k is None
        remote = fake.remote(key)
        for size in (16, 24, 32, 48, 64):
            wrapped = remote.wrap_key(algorithm, b"\x05" * size)
            # RFC 3394, by another library.
            assert keywrap.aes_key_unwrap(material, wrapped.encrypted_key) == b"\x05" * size
            assert remote.unwrap_key(algorithm, wrapped.encrypted_key).key == b"\x05" * size
        refused(HttpResponseError, "BadParameter", lambda: remote.wrap_key(algorithm, b"17 bytes of a key"))
    made = client.create_oct_key(name(), size=256, hardware_protected=True, key_operations=[KeyOperation.wrap_key, KeyOperation.unwrap_key])
    assert made.key_type == "oct-HSM"
    remote = fake.remote(made)
    assert remote.unwrap_key(KeyWrapAlgorithm.aes_256, remote.wrap_key(KeyWrapAlgorithm.aes_256, b"\x01" * 32).encrypted_key).key == b"\x01" * 32
    refused(HttpResponseError, "BadParameter", lambda: remote.wrap_key(KeyWrapAlgorithm.aes_128, b"\x01" * 32))
    refused(HttpResponseError, "BadParameter", lambda: fake.keys().create_oct_key(name(), size=256, hardware_protected=True))


def test_aes_gcm_binds_its_data(fake):
    client = fake.keys(fake.hsm)
    material = bytes(range(32))
    key = client.import_key(name(), JsonWebKey(kty="oct-HSM", k=material, key_ops=["encrypt", "decrypt"]))
    remote = fake.remote(key)
    sealed = remote.encrypt(EncryptionAlgorithm.a256_gcm, b"a data key", additional_authenticated_data=b"context")
    assert len(sealed.iv) == 12 and len(sealed.tag) == 16
    assert AESGCM(material).decrypt(sealed.iv, sealed.ciphertext + sealed.tag, b"context") == b"a data key"
    beside = {"iv": sealed.iv, "authentication_tag": sealed.tag}
    opened = remote.decrypt(EncryptionAlgorithm.a256_gcm, sealed.ciphertext, additional_authenticated_data=b"context", **beside)
    assert opened.plaintext == b"a data key"
    other = lambda: remote.decrypt(EncryptionAlgorithm.a256_gcm, sealed.ciphertext, additional_authenticated_data=b"other", **beside)
    refused(HttpResponseError, "BadParameter", other)
    again = remote.encrypt(EncryptionAlgorithm.a256_gcm, b"a data key", additional_authenticated_data=b"context")
    assert again.iv != sealed.iv


def test_random_bytes_are_of_a_managed_hsm(fake):
    assert len(fake.keys(fake.hsm).get_random_bytes(32)) == 32
    refused(HttpResponseError, "NotFound", lambda: fake.keys().get_random_bytes(32))


def test_versions_come_in_pages(fake):
    client = fake.keys(fake.hsm)
    key = client.create_oct_key(name(), size=256, hardware_protected=True, tags={"claviger-tenant": "t"})
    ids = {key.id} | {client.rotate_key(key.name).id for _ in range(30)}
    listed = list(client.list_properties_of_key_versions(key.name))
    assert len(listed) == 31 and {properties.id for properties in listed} == ids
    assert all(properties.tags == {"claviger-tenant": "t"} for properties in listed)
    pages = list(client.list_properties_of_key_versions(key.name, max_page_size=10).by_page())
    assert [len(list(page)) for page in pages] == [10, 10, 10, 1]
    assert any(properties.name == key.name for properties in client.list_properties_of_keys())
    assert list(client.list_properties_of_key_versions(name())) == []


def test_rotation_makes_the_next_version(fake):
    client = fake.keys()
    first = client.create_rsa_key(name(), size=3072, key_operations=[KeyOperation.wrap_key, KeyOperation.unwrap_key])
    wrapped = fake.remote(first).wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"old")
    second = client.rotate_key(first.name)
    assert second.id != first.id and second.key.n != first.key.n and len(second.key.n) == 384
    assert second.key_operations == first.key_operations and client.get_key(first.name).id == second.id
    assert fake.remote(first).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key).key == b"old"
    refused(HttpResponseError, "BadParameter", lambda: fake.remote(second).unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped.encrypted_key))
    policy = KeyRotationPolicy(lifetime_actions=[KeyRotationLifetimeAction(KeyRotationPolicyAction.rotate, time_after_create="P30D")], expires_in="P90D")
    client.update_key_rotation_policy(first.name, policy)
    read = client.get_key_rotation_policy(first.name)
    assert read.expires_in == "P90D" and read.lifetime_actions[0].time_after_create == "P30D"


def test_a_disabled_version_does_nothing(fake):
    client = fake.keys()
    key = client.create_rsa_key(name(), size=2048, tags={"kept": "tag"})
    remote = fake.remote(key)
    wrapped = remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key").encrypted_key
    changed = client.update_key_properties(key.name, key.properties.version, enabled=False)
    assert changed.properties.enabled is False and changed.properties.tags == {"kept": "tag"}
    for call in (lambda: remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key"), lambda: remote.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped)):
        refused(HttpResponseError, "Forbidden", call, "KeyDisabled")
    assert client.get_key(key.name).properties.enabled is False
    client.update_key_properties(key.name, key.properties.version, enabled=True, tags={"other": "tag"})
    assert remote.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == b"key"
    assert client.get_key(key.name).properties.tags == {"other": "tag"}


def test_dates_and_operations_are_enforced(fake):
    client = fake.keys()
    now = datetime.datetime.now(datetime.timezone.utc)
    hour = datetime.timedelta(hours=1)
    key = client.create_rsa_key(name(), size=2048)
    remote = fake.remote(key)
    wrapped = remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key").encrypted_key
    for more, inner in [({"not_before": now + hour}, "KeyNotYetValid"), ({"not_before": now - 2 * hour, "expires_on": now - hour}, "KeyExpired")]:
        client.update_key_properties(key.name, key.properties.version, **more)
        refused(HttpResponseError, "Forbidden", lambda: remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key"), inner)
        assert remote.unwrap_key(KeyWrapAlgorithm.rsa_oaep_256, wrapped).key == b"key"
    client.update_key_properties(key.name, key.properties.version, key_operations=["unwrapKey"], expires_on=now + hour)
    refused(HttpResponseError, "Forbidden", lambda: remote.wrap_key(KeyWrapAlgorithm.rsa_oaep_256, b"key"), "KeyOperationForbidden")


def test_a_deleted_key_can_be_recovered(fake):
    client = fake.keys()
    key = client.create_rsa_key(name(), size=2048)
    deleted = client.begin_delete_key(key.name).result()
    assert deleted.recovery_id.endswith(f"/deletedkeys/{key.name}") and deleted.scheduled_purge_date > deleted.deleted_date
    refused(ResourceNotFoundError, "KeyNotFound", lambda: client.get_key(key.name))
    refused(ResourceExistsError, "Conflict", lambda: client.create_rsa_key(key.name, size=2048), "ObjectIsDeletedButRecoverable")
    assert client.get_deleted_key(key.name).id == key.id
    assert any(other.name == key.name for other in client.list_deleted_keys())
    assert client.begin_recover_deleted_key(key.name).result().id == key.id
    assert client.get_key(key.name).id == key.id
    client.begin_delete_key(key.name).result()
    client.purge_deleted_key(key.name)
    refused(ResourceNotFoundError, "KeyNotFound", lambda: client.get_deleted_key(key.name))
    assert client.create_rsa_key(key.name, size=2048).id != key.id


def test_versions_of_the_api_are_looked_at(fake):
    for version in (ApiVersion.V7_3, ApiVersion.V7_4, ApiVersion.V7_5):
        fake.keys(api_version=version).create_rsa_key(name(), size=2048)
    refused(HttpResponseError, "BadParameter", lambda: fake.keys(api_version="6.0").get_key(name()))


def test_applications_get_tokens(fake):
    key = rsa.generate_private_key(65537, 2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "application")])
    now = datetime.datetime.now(datetime.timezone.utc)
    certificate = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    fake.control("azure", {"strict": True, "applications": {
        "with-secret": {"secrets": ["right"]}, "with-certificate": {"certificates": [pem.decode()]}, "federated": {"federated": ["another.issuers.token"]},
        "reader": {"secrets": ["right"], "permissions": ["get"]},
    }})  # fmt: skip
    login = {"authority": fake.authority(), "disable_instance_discovery": True, "connection_verify": fake.ca, "retry_total": 0}
    try:
        for credential in (
            ClientSecretCredential(DIRECTORY, "with-secret", "right", **login),
            CertificateCredential(DIRECTORY, "with-certificate", certificate_data=pem + secret, **login),
            ClientAssertionCredential(DIRECTORY, "federated", lambda: "another.issuers.token", **login),
        ):
            for url in (fake.vault, fake.hsm):
                assert list(fake.keys(url, credential).list_properties_of_key_versions(name())) == []
        other = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for credential in (
            ClientSecretCredential(DIRECTORY, "with-secret", "wrong", **login),
            ClientSecretCredential(DIRECTORY, "unknown", "right", **login),
            ClientSecretCredential("22222222-2222-3333-4444-555555555555", "with-secret", "right", **login),
            CertificateCredential(DIRECTORY, "with-certificate", certificate_data=pem + other, **login),
            ClientAssertionCredential(DIRECTORY, "federated", lambda: "nobodys.token", **login),
        ):
            try:
                fake.keys(credential=credential).get_key(name())
            except ClientAuthenticationError:
                continue
            raise AssertionError("a credential that is none was taken")
        reader = ClientSecretCredential(DIRECTORY, "reader", "right", **login)
        refused(ResourceNotFoundError, "KeyNotFound", lambda: fake.keys(credential=reader).get_key(name()))
        refused(HttpResponseError, "Forbidden", lambda: fake.keys(credential=reader).create_rsa_key(name()), "ForbiddenByRbac")
        fake.control("azure", {"by_policy": True})
        refused(HttpResponseError, "Forbidden", lambda: fake.keys(credential=reader).create_rsa_key(name()), "ForbiddenByPolicy")
        refused(ClientAuthenticationError, "Unauthorized", lambda: fake.keys().get_key(name()))
    finally:
        fake.control("azure", {"strict": False, "by_policy": False, "applications": {}})


def test_faults_are_azures(fake):
    client = fake.keys()
    key = client.create_rsa_key(name(), size=2048)
    fake.control("faults", [{"path": key.name, "act": {"kind": "throttle", "retry_after": 7}}])
    try:
        client.get_key(key.name)
        raise AssertionError("no throttling")
    except HttpResponseError as error:
        assert (error.status_code, error.error.code, error.response.headers["Retry-After"]) == (429, "Throttled", "7")
    # The client's own patience.
    fake.control("faults", [{"path": key.name, "times": 2, "act": {"kind": "unavailable"}}])
    patient = KeyClient(fake.vault, Token(), verify_challenge_resource=False, connection_verify=fake.ca, retry_backoff_factor=0)
    assert patient.get_key(key.name).id == key.id
    fake.control("faults", [])


def run_go(fake, program):
    """Microsoft's client for Go, as a program of its own: its lines are counted among ours."""
    told = {"CLAVIGER_TEST_FAKE_AZURE_ADDRESS": fake.vault, "CLAVIGER_TEST_FAKE_AZURE_CA": fake.ca}
    ended = subprocess.run([program], env=told, capture_output=True, text=True, timeout=120)
    lines = ended.stdout.splitlines()
    good, bad = (sum(line.startswith(word) for line in lines) for word in ("ok ", "FAILED "))
    for line in lines[:-1]:
        print("go:", line)
    if ended.returncode != (1 if bad else 0) or not good + bad:
        print("FAILED go", ended.returncode, ended.stderr)
        bad += 1
    return good, bad


def main():
    fake = Fake()
    passed = failed = 0
    try:
        for test in [value for name_, value in globals().items() if name_.startswith("test_")]:
            try:
                test(fake)
                passed += 1
                print("ok", test.__name__)
            except Exception as error:  # Every other test is run all the same.
                failed += 1
                print("FAILED", test.__name__, f"{type(error).__name__}: {error}")
        for program in sys.argv[1:]:
            good, bad = run_go(fake, program)
            passed, failed = passed + good, failed + bad
    finally:
        fake.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Holds the fake of Google Cloud KMS against Google's own client for Python, which knows nothing
of it: client.py

Each call that `providers/gcp` makes is made here. The client checks no checksum by itself, so
that is done here as Google's documentation shows; RSA-OAEP is encrypted with the package
`cryptography`, the token exchanges are those of Google's package for credentials.
"""

import datetime
import os
import subprocess
import sys
import tempfile
import traceback
import uuid

import google_crc32c as crc
from cryptography.hazmat.primitives import hashes, keywrap, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.api_core import exceptions
from google.auth import identity_pool, impersonated_credentials
from google.auth.transport.requests import Request
from google.cloud import kms
from google.iam.v1 import iam_policy_pb2
from google.oauth2 import service_account
from google.oauth2.credentials import Credentials

ADDRESS = os.environ["CLAVIGER_TEST_FAKE_GOOGLE_ADDRESS"]
LOCATION = "projects/acme-1/locations/europe-west3"
SCOPE = "https://www.googleapis.com/auth/cloudkms"
Purpose = kms.CryptoKey.CryptoKeyPurpose
Algorithm = kms.CryptoKeyVersion.CryptoKeyVersionAlgorithm
State = kms.CryptoKeyVersion.CryptoKeyVersionState
OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)


def client(credentials=None):
    options = {"api_endpoint": ADDRESS}
    return kms.KeyManagementServiceClient(transport="rest", credentials=credentials or Credentials("ya29.any"), client_options=options)


class World:
    """A key ring of a test's own."""

    def __init__(self):
        self.client = client()
        self.ring = self.client.create_key_ring(parent=LOCATION, key_ring_id=unique("r"), key_ring={}).name

    def key(self, purpose=Purpose.ENCRYPT_DECRYPT, algorithm=Algorithm.GOOGLE_SYMMETRIC_ENCRYPTION, level=kms.ProtectionLevel.SOFTWARE, **more):
        template = {"algorithm": algorithm, "protection_level": level}
        key = {"purpose": purpose, "version_template": template, "labels": {"claviger-tenant": "0" * 32}, **more.pop("key", {})}
        request = {"parent": self.ring, "crypto_key_id": unique("k"), "crypto_key": key, **more}
        return self.client.create_crypto_key(request=request)

    def enabled(self, name):
        """A version, once it has its material."""
        for _ in range(3000):
            version = self.client.get_crypto_key_version(name=name)
            if version.state != State.PENDING_GENERATION:
                return version
        raise AssertionError(f"{name} is not made")


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex}"


def refused(status, reason, call, *arguments, **named):
    """A call that must be refused with a status of Google's, for a reason among its words or details."""
    try:
        call(*arguments, **named)
    except exceptions.GoogleAPICallError as error:
        told = error.response.json()["error"]
        assert told["status"] == status and told["code"] == error.code and reason in f"{told}", told
        return
    raise AssertionError(f"not {status}")


def symmetric_keys_bind_the_context():
    world = World()
    key = world.key()
    assert (key.purpose, key.primary.state) == (Purpose.ENCRYPT_DECRYPT, State.ENABLED)
    assert key.labels["claviger-tenant"] == "0" * 32
    for name, length in ((key.name, 32), (key.primary.name, 4096)):
        plaintext, aad = os.urandom(length), b"context"
        sent = {"name": name, "plaintext": plaintext, "plaintext_crc32c": crc.value(plaintext)}
        sent |= {"additional_authenticated_data": aad, "additional_authenticated_data_crc32c": crc.value(aad)}
        made = world.client.encrypt(request=sent)
        assert made.name == key.primary.name and made.verified_plaintext_crc32c and made.verified_additional_authenticated_data_crc32c
        assert made.ciphertext_crc32c == crc.value(made.ciphertext)
        again = {"name": key.name, "ciphertext": made.ciphertext, "ciphertext_crc32c": crc.value(made.ciphertext)}
        again |= {"additional_authenticated_data": aad, "additional_authenticated_data_crc32c": crc.value(aad)}
        opened = world.client.decrypt(request=again)
        assert opened.plaintext == plaintext and opened.plaintext_crc32c == crc.value(plaintext) and opened.used_primary
        other = again | {"additional_authenticated_data": b"other", "additional_authenticated_data_crc32c": crc.value(b"other")}
        refused("INVALID_ARGUMENT", "", world.client.decrypt, request=other)
        refused("INVALID_ARGUMENT", "ciphertext_crc32c", world.client.decrypt, request=again | {"ciphertext_crc32c": 1})
        flipped = bytes([made.ciphertext[0] ^ 1]) + made.ciphertext[1:]
        refused("INVALID_ARGUMENT", "", world.client.decrypt, request={"name": key.name, "ciphertext": flipped})
        stranger = world.key().name
        refused("INVALID_ARGUMENT", "", world.client.decrypt, request=again | {"name": stranger})


def rotation_keeps_what_was_encrypted_before():
    world = World()
    key = world.key()
    old = world.client.encrypt(name=key.name, plaintext=b"old").ciphertext
    version = world.client.create_crypto_key_version(parent=key.name, crypto_key_version={})
    number = version.name.rsplit("/", 1)[1]
    assert world.client.get_crypto_key(name=key.name).primary.name == key.primary.name
    rotated = world.client.update_crypto_key_primary_version(name=key.name, crypto_key_version_id=number)
    assert rotated.primary.name == version.name
    assert world.client.encrypt(name=key.name, plaintext=b"new").name == version.name
    opened = world.client.decrypt(name=key.name, ciphertext=old)
    assert opened.plaintext == b"old" and not opened.used_primary
    for _ in range(4):
        world.client.create_crypto_key_version(parent=key.name, crypto_key_version={})
    pages = world.client.list_crypto_key_versions(request={"parent": key.name, "page_size": 2})
    assert [v.name.rsplit("/", 1)[1] for v in pages] == ["1", "2", "3", "4", "5", "6"]
    assert len(list(world.client.list_crypto_keys(parent=world.ring))) == 1


def states_are_enforced():
    world = World()
    key = world.key()
    made = world.client.encrypt(name=key.name, plaintext=b"key").ciphertext

    def switch(state):
        version = {"name": key.primary.name, "state": state}
        return world.client.update_crypto_key_version(crypto_key_version=version, update_mask={"paths": ["state"]}).state

    assert switch(State.DISABLED) == State.DISABLED == switch(State.DISABLED)
    refused("FAILED_PRECONDITION", "KEY_DISABLED", world.client.encrypt, name=key.name, plaintext=b"key")
    refused("FAILED_PRECONDITION", "KEY_DISABLED", world.client.decrypt, name=key.name, ciphertext=made)
    assert world.client.get_crypto_key(name=key.name).primary.state == State.DISABLED
    assert switch(State.ENABLED) == State.ENABLED
    assert world.client.decrypt(name=key.name, ciphertext=made).plaintext == b"key"
    scheduled = world.client.destroy_crypto_key_version(name=key.primary.name)
    assert scheduled.state == State.DESTROY_SCHEDULED and scheduled.destroy_time > datetime.datetime.now(datetime.timezone.utc)
    refused("FAILED_PRECONDITION", "KEY_DESTROYED", world.client.decrypt, name=key.name, ciphertext=made)
    assert world.client.restore_crypto_key_version(name=key.primary.name).state == State.DISABLED


def rsa_keys_open_what_their_public_half_wraps():
    world = World()
    for algorithm, bits in ((Algorithm.RSA_DECRYPT_OAEP_3072_SHA256, 3072), (Algorithm.RSA_DECRYPT_OAEP_4096_SHA256, 4096)):
        key = world.key(Purpose.ASYMMETRIC_DECRYPT, algorithm)
        assert not key.primary.name
        version = world.enabled(f"{key.name}/cryptoKeyVersions/1")
        assert version.state == State.ENABLED and version.algorithm == algorithm
        half = world.client.get_public_key(name=version.name)
        assert half.name == version.name and half.algorithm == algorithm and half.pem_crc32c == crc.value(half.pem.encode())
        public = serialization.load_pem_public_key(half.pem.encode())
        assert public.key_size == bits
        wrapped = public.encrypt(b"data key", OAEP)
        sent = {"name": version.name, "ciphertext": wrapped, "ciphertext_crc32c": crc.value(wrapped)}
        opened = world.client.asymmetric_decrypt(request=sent)
        assert opened.plaintext == b"data key" and opened.plaintext_crc32c == crc.value(b"data key") and opened.verified_ciphertext_crc32c
        refused("INVALID_ARGUMENT", "", world.client.asymmetric_decrypt, name=version.name, ciphertext=wrapped[:-1])
        sha1 = public.encrypt(b"data key", padding.OAEP(padding.MGF1(hashes.SHA1()), hashes.SHA1(), None))
        refused("INVALID_ARGUMENT", "", world.client.asymmetric_decrypt, name=version.name, ciphertext=sha1)
        refused("FAILED_PRECONDITION", "purpose", world.client.encrypt, name=key.name, plaintext=b"key")


def keys_of_every_protection_level_do_the_same():
    world = World()
    for level in (kms.ProtectionLevel.SOFTWARE, kms.ProtectionLevel.HSM):
        key = world.key(level=level)
        made = world.client.encrypt(name=key.name, plaintext=b"key")
        assert made.protection_level == level == key.primary.protection_level
        assert world.client.decrypt(name=key.name, ciphertext=made.ciphertext).protection_level == level
    refused("INVALID_ARGUMENT", "", world.client.encrypt, name=key.name, plaintext=b"x" * 8193)
    for level in (kms.ProtectionLevel.EXTERNAL, kms.ProtectionLevel.EXTERNAL_VPC):
        key = world.key(algorithm=Algorithm.EXTERNAL_SYMMETRIC_ENCRYPTION, level=level, skip_initial_version_creation=True)
        version = {"external_protection_level_options": {"external_key_uri": "https://ekm.example/k"}}
        version = world.client.create_crypto_key_version(parent=key.name, crypto_key_version=version)
        world.client.update_crypto_key_primary_version(name=key.name, crypto_key_version_id="1")
        made = world.client.encrypt(name=key.name, plaintext=b"key")
        assert made.protection_level == level == version.protection_level


def random_bytes_come_from_the_hsm():
    sent = {"location": LOCATION, "length_bytes": 64, "protection_level": kms.ProtectionLevel.HSM}
    first, second = (client().generate_random_bytes(request=sent) for _ in range(2))
    assert len(first.data) == 64 and first.data != second.data and first.data_crc32c == crc.value(first.data)
    refused("INVALID_ARGUMENT", "", client().generate_random_bytes, request=sent | {"length_bytes": 7})


def what_is_not_there_is_not_found():
    world = World()
    refused("NOT_FOUND", "", world.client.get_crypto_key, name=f"{world.ring}/cryptoKeys/none")
    refused("NOT_FOUND", "", world.client.encrypt, name=f"{world.ring}/cryptoKeys/none", plaintext=b"key")
    refused("NOT_FOUND", "mars", world.client.get_key_ring, name="projects/p/locations/mars/keyRings/r")
    refused("ALREADY_EXISTS", "", world.client.create_key_ring, parent=LOCATION, key_ring_id=world.ring.rsplit("/", 1)[1], key_ring={})


def permissions_are_told():
    world = World()
    asked = iam_policy_pb2.TestIamPermissionsRequest(resource=world.key().name, permissions=["cloudkms.cryptoKeys.get"])
    assert list(world.client.test_iam_permissions(request=asked).permissions) == ["cloudkms.cryptoKeys.get"]


def material_is_imported():
    world = World()
    job = {"import_method": kms.ImportJob.ImportMethod.RSA_OAEP_3072_SHA256_AES_256, "protection_level": kms.ProtectionLevel.SOFTWARE}
    job = world.client.create_import_job(parent=world.ring, import_job_id=unique("j"), import_job=job)
    assert world.client.get_import_job(name=job.name).state == kms.ImportJob.ImportJobState.ACTIVE
    public = serialization.load_pem_public_key(job.public_key.pem.encode())
    private = rsa.generate_private_key(65537, 3072)
    pkcs8 = private.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    for purpose, algorithm, material in (
        (Purpose.ENCRYPT_DECRYPT, Algorithm.GOOGLE_SYMMETRIC_ENCRYPTION, os.urandom(32)),
        (Purpose.ASYMMETRIC_DECRYPT, Algorithm.RSA_DECRYPT_OAEP_3072_SHA256, pkcs8),
    ):
        key = world.key(purpose, algorithm, key={"import_only": True}, skip_initial_version_creation=True)
        ephemeral = os.urandom(32)
        wrapped = public.encrypt(ephemeral, OAEP) + keywrap.aes_key_wrap_with_padding(ephemeral, material)
        request = {"parent": key.name, "import_job": job.name, "algorithm": algorithm, "wrapped_key": wrapped}
        version = world.client.import_crypto_key_version(request=request)
        assert version.state == State.ENABLED and version.import_job == job.name
    wrapped = private.public_key().encrypt(b"data key", OAEP)
    assert world.client.asymmetric_decrypt(name=version.name, ciphertext=wrapped).plaintext == b"data key"
    refused("INVALID_ARGUMENT", "", world.client.import_crypto_key_version, request=request | {"wrapped_key": b"x" * 500})


def googles_own_credentials_get_their_tokens():
    world = World()
    key = rsa.generate_private_key(65537, 2048)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()
    account = {"type": "service_account", "client_email": "kms@acme-1.iam.gserviceaccount.com", "private_key_id": "1", "private_key": pem}
    keyed = service_account.Credentials.from_service_account_info(account | {"token_uri": f"{ADDRESS}/token"}, scopes=[SCOPE])
    with tempfile.NamedTemporaryFile("w", suffix=".jwt") as token:
        token.write("e30.e30.sig")
        token.flush()
        audience = "//iam.googleapis.com/projects/12/locations/global/workloadIdentityPools/pool/providers/own"
        workload = identity_pool.Credentials(
            audience=audience,
            subject_token_type="urn:ietf:params:oauth:token-type:jwt",
            token_url=f"{ADDRESS}/v1/token",
            credential_source={"file": token.name},
            scopes=["https://www.googleapis.com/auth/cloud-platform"],
        )
        endpoint = f"{ADDRESS}/v1/projects/-/serviceAccounts/kms@customer-1.iam.gserviceaccount.com:generateAccessToken"
        impersonated = impersonated_credentials.Credentials(
            workload, "kms@customer-1.iam.gserviceaccount.com", [SCOPE], lifetime=600, iam_endpoint_override=endpoint
        )
        for credentials in (keyed, workload, impersonated):
            credentials.refresh(Request())
            assert credentials.token.startswith("ya29.fake-") and credentials.valid
            assert client(credentials).get_key_ring(name=world.ring).name == world.ring


CASES = [value for name, value in list(globals().items()) if callable(value) and getattr(value, "__module__", None) == __name__]
CASES = [case for case in CASES if not isinstance(case, type) and case.__name__ not in ("client", "unique", "refused")]


def main():
    failed = 0
    for case in CASES:
        try:
            case()
            print(f"ok {case.__name__}")
        except Exception:
            failed += 1
            print(f"FAILED {case.__name__}")
            traceback.print_exc()
    print(f"{len(CASES) - failed} passed, {failed} failed")
    return 1 if failed or not CASES else 0


if __name__ == "__main__":
    sys.exit(main())

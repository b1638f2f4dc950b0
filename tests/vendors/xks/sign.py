"""botocore's signer, and a client written from the specification alone, against the fake XKS proxy: sign.py

Starts the fake (tests/backends/xks/start). Every signature of botocore must be accepted, and every request that differs
from what was signed must be refused.
"""

import base64
import datetime
import hashlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import urllib.parse

import botocore.auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ROOT = pathlib.Path(__file__).resolve().parents[3]
FIRST = ("CLAVIGERFAKEXKSPROXY", "FirstSecretOfTheFakeXksProxyOnlyForTests0123")
SECOND = ("CLAVIGERFAKEXKSSECOND", "SecondSecretOfTheFakeXksProxyOnlyForTests012")
REGION = "eu-central-1"
SERVICE = "kms-xks-proxy"
KEY = {"awsPrincipalArn": "arn:aws:iam::1:user/a", "kmsKeyArn": "arn:aws:kms:eu-central-1:1:key/k"}
BASE = {"kmsOperation": "Encrypt", "kmsRequestId": "4112f4d6-db54-4af4-ae30-c55a22a8dfae"}


class Fake:
    def __init__(self):
        self.process = subprocess.Popen([ROOT / "tests/backends/xks/start"], stdout=subprocess.PIPE, text=True)
        self.address = None
        for line in self.process.stdout:
            if line.startswith("CLAVIGER_TEST_FAKE_XKS_ADDRESS="):
                self.address = line.strip().split("=", 1)[1]
            if line.strip() == "# ready":
                return
        raise SystemExit("the fake did not start")

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def send(self, method, path, headers, body):
        """One request as it is; returns status and JSON."""
        connection = http.client.HTTPConnection(urllib.parse.urlsplit(self.address).netloc, timeout=10)
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        text = response.read()
        connection.close()
        return response.status, json.loads(text) if text else None

    def set_up(self, **setup):
        status, _ = self.send("PUT", "/_fake/xks", {"Content-Type": "application/json"}, json.dumps(setup))
        assert status == 204, status

    def signed(self, path, body, key=FIRST, region=REGION, service=SERVICE, headers=(), at=None):
        """The headers of a request that botocore signed."""
        if at is not None:
            botocore.auth.get_current_datetime = lambda *_, **__: at
        else:
            botocore.auth.get_current_datetime = NOW
        request = AWSRequest("POST", self.address + path, data=body, headers=dict(headers))
        botocore.auth.SigV4Auth(Credentials(*key), service, region).add_auth(request)
        return dict(request.headers)

    def call(self, path, body, **options):
        body = json.dumps(body).encode()
        headers = self.signed("/kms/xks/v1/" + path, body, **options)
        return self.send("POST", "/kms/xks/v1/" + path, headers, body)


NOW = botocore.auth.get_current_datetime
CASES = []


def case(function):
    CASES.append(function)
    return function


def refused(answer, name="AuthenticationFailedException", status=401):
    assert (answer[0], answer[1]["errorName"]) == (status, name), answer


@case
def what_botocore_signs_is_accepted(fake):
    json_type = {"Content-Type": "application/json"}
    for headers in ({}, json_type, json_type | {"X-Odd": "  two   spaces  ", "X-Empty": ""}, json_type | {"Accept": "*/*"}):
        status, body = fake.call("health", {"requestMetadata": BASE}, headers=headers)
        assert status == 200 and body["ekmFleetDetails"], body
    for seconds in (-290, 290):
        at = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(seconds=seconds)
        assert fake.call("health", {"requestMetadata": BASE}, at=at)[0] == 200


@case
def what_differs_from_what_was_signed_is_refused(fake):
    body = json.dumps({"requestMetadata": BASE}).encode()
    path = "/kms/xks/v1/health"
    sound = fake.signed(path, body, headers={"Content-Type": "application/json"})
    assert fake.send("POST", path, sound, body)[0] == 200
    for headers, other_path, other_body in (
        (sound, path, body + b" "),
        (sound, path, b""),
        (sound, "/kms/xks/v1/keys/foo/metadata", body),
        (sound, path + "?a=b", body),
        (sound | {"Content-Type": "text/plain"}, path, body),
        (sound | {"Host": "elsewhere.example"}, path, body),
        (sound | {"X-Amz-Date": sound["X-Amz-Date"].replace("Z", "") + "0"}, path, body),
        (sound | {"Authorization": sound["Authorization"][:-1] + ("0" if sound["Authorization"][-1] != "0" else "1")}, path, body),
        (sound | {"Authorization": sound["Authorization"].replace("host;", "")}, path, body),
        (sound | {"Authorization": sound["Authorization"].replace("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1")}, path, body),
        ({name: value for name, value in sound.items() if name != "Authorization"}, path, body),
        ({name: value for name, value in sound.items() if name != "X-Amz-Date"}, path, body),
    ):
        refused(fake.send("POST", other_path, headers, other_body))


@case
def another_scope_is_refused(fake):
    body = {"requestMetadata": BASE}
    for options in (
        {"region": "us-east-1"},
        {"service": "kms"},
        {"key": (FIRST[0], SECOND[1])},
        {"key": SECOND},
        {"key": ("CLAVIGERFAKEXKSPROXX", FIRST[1])},
    ):
        refused(fake.call("health", body, **options))
    for minutes in (-6, 6):
        at = datetime.datetime.now(datetime.timezone.utc).replace(tzinfo=None) + datetime.timedelta(minutes=minutes)
        refused(fake.call("health", body, at=at))


@case
def two_access_keys_are_accepted_at_once(fake):
    keys = [{"id": id, "secret": secret} for id, secret in (FIRST, SECOND)]
    fake.set_up(access_keys=keys)
    for key in (FIRST, SECOND):
        assert fake.call("health", {"requestMetadata": BASE}, key=key)[0] == 200
    fake.set_up(access_keys=keys[1:])
    refused(fake.call("health", {"requestMetadata": BASE}))
    assert fake.call("health", {"requestMetadata": BASE}, key=SECOND)[0] == 200
    fake.set_up(access_keys=keys[:1])


def encrypt(fake, key="foo", **more):
    body = {
        "requestMetadata": BASE | KEY,
        "plaintext": base64.b64encode(b"plaintext").decode(),
        "encryptionAlgorithm": "AES_GCM",
    }
    return fake.call(f"keys/{key}/encrypt", body | more)


def decrypt(fake, answer, key="foo", **more):
    members = ("ciphertext", "initializationVector", "authenticationTag", "ciphertextMetadata")
    body = {name: answer[name] for name in members if name in answer}
    return fake.call(f"keys/{key}/decrypt", {"requestMetadata": BASE | KEY, "encryptionAlgorithm": "AES_GCM"} | body | more)


@case
def a_plaintext_comes_back_with_its_additional_data(fake):
    aad = base64.b64encode(b"additional").decode()
    status, answer = encrypt(fake, additionalAuthenticatedData=aad, ciphertextDataIntegrityValueAlgorithm="SHA_256")
    assert status == 200, answer
    parts = {name: base64.b64decode(value, validate=True) for name, value in answer.items()}
    assert (len(parts["ciphertext"]), len(parts["authenticationTag"])) == (9, 16)
    assert len(parts["initializationVector"]) in (12, 16) and len(parts["ciphertextMetadata"]) <= 20
    order = ("ciphertextMetadata", "initializationVector", "ciphertext", "authenticationTag")
    expected = hashlib.sha256(b"additional" + b"".join(parts[name] for name in order)).digest()
    assert parts["ciphertextDataIntegrityValue"] == expected
    status, opened = decrypt(fake, answer, additionalAuthenticatedData=aad)
    assert (status, opened) == (200, {"plaintext": base64.b64encode(b"plaintext").decode()})
    for wrong in (
        {"additionalAuthenticatedData": base64.b64encode(b"Additional").decode()},
        {"additionalAuthenticatedData": aad, "ciphertext": base64.b64encode(b"plaintext").decode()},
        {"additionalAuthenticatedData": aad, "authenticationTag": base64.b64encode(bytes(16)).decode()},
        {"additionalAuthenticatedData": aad, "initializationVector": base64.b64encode(bytes(12)).decode()},
        {"additionalAuthenticatedData": aad, "ciphertextMetadata": base64.b64encode(bytes(5)).decode()},
    ):
        refused(decrypt(fake, answer, **wrong), "InvalidCiphertextException", 400)
    refused(decrypt(fake, answer), "InvalidCiphertextException", 400)


@case
def refusals_have_the_names_of_the_specification(fake):
    metadata = {"requestMetadata": BASE | KEY}
    refused(fake.call("keys/absent/metadata", metadata), "KeyNotFoundException", 404)
    refused(fake.call("keys/foo/rotate", metadata), "InvalidUriPathException", 404)
    refused(fake.call("keys/foo/metadata", {"requestMetadata": BASE}), "ValidationException", 400)
    refused(fake.call("health", {"requestMetadata": {}}), "ValidationException", 400)
    refused(fake.call("health", {"requestMetadata": BASE | {"claviger": "x"}}), "ValidationException", 400)
    refused(encrypt(fake, encryptionAlgorithm="AES_CBC"), "ValidationException", 400)
    refused(encrypt(fake, plaintext="no base64"), "ValidationException", 400)
    refused(encrypt(fake, key="decrypt_only_key"), "InvalidKeyUsageException", 400)
    refused(
        encrypt(fake, key="encrypt_only_key", ciphertextDataIntegrityValueAlgorithm="SHA_256"), "InvalidKeyUsageException", 400
    )
    fake.set_up(denials=[{"member": "kmsOperation", "value": "Encrypt"}])
    refused(encrypt(fake), "AccessDeniedException", 403)
    fake.set_up(denials=[])
    assert encrypt(fake)[0] == 200


def main():
    os.environ["NO_PROXY"] = "*"
    passed = failed = 0
    fake = Fake()
    try:
        for function in CASES:
            try:
                function(fake)
                passed += 1
            except AssertionError as error:
                failed += 1
                print(f"FAILED {function.__name__}: {error!r}")
    finally:
        fake.stop()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())

import hmac
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

k, header, payload = (open(name, "rb").read() for name in ("k", "header", "payload"))
dek_id = header[5:21]  # behind the map's head, the suite, key 2 and the byte string's head
prk = hmac.digest(b"claviger/v1", k, "sha256")
pk = hmac.digest(prk, b"payload" + dek_id + b"\x01", "sha256")
plaintext = AESGCM(pk).decrypt(bytes(12), payload, header)
open("plaintext", "wb").write(plaintext)

"""Writes key-store-1.bin from docs/formats/key-store.md alone, as a check on the Swift program.

Run: python3 make_key_store.py   (needs the package "cryptography")
"""

import hashlib
import hmac
import pathlib
import struct

from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def hkdf(salt, material, info, count):
    key = hmac.new(salt or bytes(32), material, hashlib.sha256).digest()
    output, block = b"", b""
    while len(output) < count:
        block = hmac.new(key, block + info + bytes([len(output) // 32 + 1]), hashlib.sha256).digest()
        output += block
    return output[:count]


seal_key = bytes(range(32))
salt = bytes(range(100, 116))
nonce = bytes(range(200, 212))
created = 1_700_000_000_000

text = bytes([6]) + b"golden"
text += struct.pack(">Q", created)
text += bytes(range(64, 96))
certificate = b"certificate in DER"
text += struct.pack(">I", len(certificate)) + certificate
keys = [(1, 1, 0xA1), (1, 2, 0xA2), (2, 1, 0xB1), (3, 1, 0xC1)]
text += struct.pack(">I", len(keys))
for kind, version, fill in keys:
    text += struct.pack(">BIQ", kind, version, created + version) + bytes([fill]) * 32

header = b"SFKS" + bytes([1]) + hkdf(b"", seal_key, b"sfmedir key store 1 identifier", 8)
header += salt + nonce + struct.pack(">I", len(text))
key = hkdf(salt, seal_key, b"sfmedir key store 1", 32)
sealed = header + AESGCM(key).encrypt(nonce, text, header)
pathlib.Path(__file__).with_name("key-store-1.bin").write_bytes(sealed)
print(len(sealed), "bytes, sha256", hashlib.sha256(sealed).hexdigest())

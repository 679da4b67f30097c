"""What operators write, and what claims to be theirs: profiles, inventories, rules, lists of operators, signatures."""

import json
from base64 import b64encode
from collections.abc import Iterator
from functools import cache
from hashlib import sha256, sha512
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import ec, padding
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA512
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

import cert_forge
import changes_world
from attestd.appraisal.document import ProfileError, read_json, read_yaml, write_json
from attestd.appraisal.profile import canonical, load_profile, parse_profile_yaml
from attestd.changes import canonical as changes_canonical
from attestd.changes.errors import ChangeRefused
from attestd.changes.inventory import InventoryEntry, inventory_document, parse_csv, parse_json, read_inventory
from attestd.changes.operators import parse_operators
from attestd.changes.rules import AdmissionRule, read_rules, rules_document
from attestd.changes.signature import check_key, claimed_key, sign, verify
from attestd.changes.statement import NAMESPACE
from fuzz.of_tpm import each
from fuzz.target import Target

_MESSAGE: Final = b"attestd change v1\nsequence: 1\n"
_ALICE: Final = changes_world.Person("alice", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
_DIGEST: Final = "sha256:" + "ed" * 32
_PROFILE: Final = f"""profile: edge-gateway            # the class of devices
version: 3
description: Gateways of the first series
interval: 60
deadline: 300
claims:
  secure-boot:
    check: required
    accept:
      - text: "enabled"
  loader:
    check: required
    accept:
      - digest: {_DIGEST}
        note: shim 15.8
  kernel-command-line: {{check: required, accept: [{{glob: "/vmlinuz-* root=UUID=* ro quiet"}}]}}
  option-rom: {{check: absent}}
  gpt: {{check: ignored}}
pcrs:
  3: [{_DIGEST}]
  15: ignored
runtime:
  check: required
  violations: warn
  exclude: ["/tmp/*", "/run/*"]
  allow:
    /usr/bin/app: [{_DIGEST}]
tpm:
  manufacturers: ["IFX"]
  firmware-versions: ["0x0007005500420001"]
tiers:
  gpt: warning
"""


# --- Seeds ----------------------------------------------------------------------------------------------------------------


def yamls() -> Iterator[bytes]:
    """Return profiles as people write them."""
    yield _PROFILE.encode()
    yield b"profile: a\nversion: 1\n"
    yield b"---\n\"profile\": 'a'\nversion: 1\nclaims: {}\ndescription: |\n  a\n  b\n...\n"


def _profiles() -> Iterator[bytes]:
    for text in (_PROFILE, "profile: a\nversion: 1\n"):
        yield canonical(parse_profile_yaml(text))


def _csvs() -> Iterator[bytes]:
    yield (
        b"ek_public_sha256,name,site,profile,note\n"
        + b"ab" * 32
        + b",edge-1,berlin,edge,\n"
        + b"cd" * 32
        + b',edge-2,berlin,edge,"a\nb"\n'
    )
    yield f"device_id,name,site,profile\n{changes_world.device(1)},edge-1,berlin,edge\n".encode()
    leaf = cert_forge.make(cert_forge.LEAF, cert_forge.ROOT).der.hex()
    yield f"name,ek_certificate,site,profile\nedge-1,{leaf},berlin,edge\n".encode()


def _rows() -> Iterator[bytes]:
    common = {"name": "edge-1", "site": "berlin", "profile": "edge"}
    rows = [
        {"device_id": changes_world.device(1), **common},
        {"ek_public_sha256": "ab" * 32, **common, "name": "edge-2"},
    ]
    yield json.dumps(rows).encode()


def _documents() -> Iterator[bytes]:
    added = [InventoryEntry(changes_world.device(number), f"edge-{number}", "berlin", "edge") for number in (1, 2)]
    yield inventory_document(added, (changes_world.device(3),))
    yield rules_document((AdmissionRule("IFX", "SLB*", "edge"), AdmissionRule("*", "*", None)))
    yield changes_canonical.write({"a": [1, "\u00e9", None, True]})


def _operators() -> Iterator[bytes]:
    yield changes_world.allowed(_ALICE).encode()
    options = 'namespaces="attestd-change,git",valid-after="20260101Z",valid-before="20270101120000Z"'
    yield b"# a comment\n\n" + changes_world.allowed(_ALICE, options=options).encode()


def _string(*parts: bytes) -> bytes:
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _number(value: int) -> bytes:
    return _string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _armored(public: bytes, signature: bytes) -> bytes:
    blob = b"SSHSIG" + (1).to_bytes(4, "big") + _string(public, NAMESPACE.encode(), b"", b"sha512", signature)
    return b"-----BEGIN SSH SIGNATURE-----\n" + b64encode(blob) + b"\n-----END SSH SIGNATURE-----\n"


@cache
def _approvals() -> tuple[bytes, ...]:
    """Return signatures over the message by keys of every type, hardware's among them, and a bare public key."""
    said = b"SSHSIG" + _string(NAMESPACE.encode(), b"", b"sha512", sha512(_MESSAGE).digest())
    made = [sign(_MESSAGE, _ALICE.pem, NAMESPACE).encode()]
    touched = sha256(b"ssh:").digest() + b"\1" + bytes(4) + sha256(said).digest()
    name = b"sk-ssh-ed25519@openssh.com"
    public = _string(name, _ALICE.key.public_key().public_bytes_raw(), b"ssh:")
    made.append(_armored(public, _string(name, _ALICE.key.sign(touched)) + b"\1" + bytes(4)))
    point = cert_forge.ec_key(33).public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    for name, over, tail, more in (
        (b"ecdsa-sha2-nistp256", said, b"", ()),
        (b"sk-ecdsa-sha2-nistp256@openssh.com", touched, b"\1" + bytes(4), (b"ssh:",)),
    ):
        r, s = decode_dss_signature(cert_forge.ec_key(33).sign(over, ec.ECDSA(SHA256())))
        made.append(_armored(_string(name, b"nistp256", point, *more), _string(name, _number(r) + _number(s)) + tail))
    key = cert_forge.rsa_key(2048)
    numbers = key.public_key().public_numbers()
    public = _string(b"ssh-rsa") + _number(numbers.e) + _number(numbers.n)
    made.append(_armored(public, _string(b"rsa-sha2-512", key.sign(said, padding.PKCS1v15(), SHA512()))))
    return (*made, public)


# --- What is done with the bytes ----------------------------------------------------------------------------------------------


def _text(data: bytes) -> str:
    """Return text that may hold lone surrogates, as what came out of JSON or a file name may."""
    return data.decode("utf-8", "surrogateescape")


def _yaml(data: bytes) -> None:
    text = _text(data)
    each(lambda: read_yaml(text), own=ProfileError)
    profile = parse_profile_yaml(text)
    assert load_profile(canonical(profile)) == profile


def _profile(data: bytes) -> None:
    each(lambda: _same(write_json(read_json(data)), data), own=ProfileError)
    assert canonical(load_profile(data)) == data


def _same(written: Any, data: Any) -> None:
    assert written == data


def _inventory(data: bytes) -> None:
    text = _text(data)
    each(lambda: parse_json(text), lambda: parse_csv(text), own=ChangeRefused)


def _changes(data: bytes) -> None:
    each(
        lambda: _same(changes_canonical.write(changes_canonical.read(data)), data),
        lambda: _same(rules_document(read_rules(data)), data),
        lambda: _inventory_again(data),
        own=ChangeRefused,
    )


def _inventory_again(data: bytes) -> None:
    found = read_inventory(data)
    assert inventory_document(found.add, found.withdraw) == data


def _signers(data: bytes) -> None:
    parse_operators(_text(data), threshold=1)


def _approval(data: bytes) -> None:
    each(lambda: check_key(data), own=ValueError)
    text = _text(data)
    each(lambda: claimed_key(text), own=ChangeRefused)
    assert verify(text, _MESSAGE, NAMESPACE) == claimed_key(text)


TARGETS: Final = {
    "profile": Target(
        _yaml,
        (ProfileError,),
        yamls,
        (read_yaml, parse_profile_yaml),
        words=(b"- digest: ", b"glob: ", b"&a ", b"*a", b"!!int ", b"<<: ", b"? "),
    ),
    "profiledocument": Target(_profile, (ProfileError,), _profiles, (read_json, load_profile), (), "json"),
    "inventory": Target(_inventory, (), lambda: [*_csvs(), *_rows()], (parse_csv, parse_json), (), "json"),
    "changes": Target(_changes, (), _documents, (changes_canonical.read, read_rules, read_inventory), (), "json"),
    "operators": Target(
        _signers,
        (ChangeRefused,),
        _operators,
        (parse_operators,),
        words=(b"namespaces=", b"valid-before=", b"cert-authority ", b"sk-ssh-ed25519@openssh.com "),
    ),
    "approval": Target(_approval, (ChangeRefused,), _approvals, (verify, claimed_key, check_key), (), "armor"),
}

"""Which endorsement key a TPM has, and which certificates its manufacturer left in NV.

Reads NV and picks a template; it neither parses nor judges a certificate, that is the verifier's work. Source: TCG EK
Credential Profile for TPM Family 2.0, 2.5, 2.2.1.4 and 2.2.1.5 (NV indices).
"""

from dataclasses import dataclass
from typing import Final

from attestd.protocol import limits
from attestd_agent import tpm_templates as templates
from attestd_agent.tpm_connection import Connection

NV_CHUNK: Final = 512
"""Bytes read from NV at once; every PC client TPM takes that many (TPM_PT_NV_BUFFER_MAX is 512 or more)."""
_OWNER_READ: Final = 1 << 17
_AUTH_READ: Final = 1 << 18  # TPMA_NV, Part 2, 13.4


@dataclass(frozen=True, slots=True)
class Endorsement:
    """The endorsement key's template and the certificates that go with it."""

    area: bytes
    """TPMT_PUBLIC to create the EK from."""
    certificates: tuple[bytes, ...]
    """As read: the one of this EK, those of other EKs, then the chain."""

    @property
    def takes_password(self) -> bool:
        """Whether the EK is used with the empty password (high range) or only with its policy (low range)."""
        return bool(int.from_bytes(self.area[4:8], "big") & templates.USER_WITH_AUTH)


def read_endorsement(tpm: Connection, owner_auth: bytes) -> Endorsement:
    """Return the endorsement of the first template whose certificate is in NV.

    Where NV has none, the EK is that of the first template: an inventory may know it by its public key alone.
    """
    present = frozenset(tpm.handles(templates.EK_TEMPLATES[0].certificate_index))
    found = [row for row in templates.EK_TEMPLATES if row.certificate_index in present]
    leaves = [nv_read(tpm, row.certificate_index, owner_auth) for row in found]
    chain = [nv_read(tpm, index, owner_auth) for index in templates.EK_CHAIN_INDICES if index in present]
    certificates = tuple(item for item in (*leaves, *split_chain(b"".join(chain))) if item)
    area = _template(tpm, found[0] if found else templates.EK_TEMPLATES[0], present, owner_auth)
    return Endorsement(area, certificates[: limits.MAX_EK_CERTIFICATES])


def _template(tpm: Connection, row: templates.EkTemplate, present: frozenset[int], owner_auth: bytes) -> bytes:
    """Return the row's template with what this manufacturer put beside its certificate: a template, a nonce or both."""
    area = row.public
    if row.template_index in present:
        area = nv_read(tpm, row.template_index, owner_auth) or area
    if row.nonce_index in present:
        area = templates.ek_template_with_nonce(row, area, nv_read(tpm, row.nonce_index, owner_auth))
    return area


def split_chain(data: bytes) -> tuple[bytes, ...]:
    """Return the certificates of the chain indices, whose contents are one string that indices cut anywhere.

    Cuts after each outer DER element with a two-byte length, which every certificate has; what does not look like one
    stays in one piece for the verifier to name.
    """
    parts: list[bytes] = []
    while len(data) > 4 and data[:2] == b"\x30\x82":
        end = 4 + int.from_bytes(data[2:4], "big")
        parts.append(data[:end])
        data = data[end:]
    # Erased NV reads as zeros or ones.
    return (*parts, data) if data.strip(b"\x00\xff") else tuple(parts)


def nv_read(tpm: Connection, index: int, owner_auth: bytes) -> bytes:
    """Return the contents of an NV index, or nothing where neither its own password nor the owner's may read it."""
    handle = tpm.run("tr_from_tpmpublic", index)
    public, _name = tpm.run("nv_read_public", handle)
    attributes, size = int(public.nvPublic.attributes), min(int(public.nvPublic.dataSize), limits.MAX_CERTIFICATE)
    if attributes & _AUTH_READ:
        reader = handle
    elif attributes & _OWNER_READ:
        reader = tpm.authorize(tpm.tss.ESYS_TR.OWNER, owner_auth)
    else:
        return b""
    parts = [
        bytes(tpm.run("nv_read", handle, min(NV_CHUNK, size - start), start, auth_handle=reader))
        for start in range(0, size, NV_CHUNK)
    ]
    return b"".join(parts)

"""A TPM reached through the TCG software stack: the only file that imports ``tpm2_pytss``.

It proves nothing to the verifier by itself; it makes the TPM do so. It opens the TPM for each operation and closes
it after, so that a bare chip without a resource manager is shared with its neighbours, a reboot of a laboratory
device needs no reconnection, and every handle is flushed. Keys that are used again are kept as saved contexts:
a routine quote costs three commands (ContextLoad, Quote, FlushContext) while no register moved.

It does not encrypt the traffic on the bus between processor and chip: whoever can probe that bus can read what is
sealed and unsealed there. It does not change hierarchy passwords, dictionary-attack settings or NV.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Final

from attestd.protocol import limits
from attestd_agent import tpm_templates as templates
from attestd_agent.tpm import Certification, KeyBlob, QuoteResult, TpmRefused, TpmUnavailable
from attestd_agent.tpm_connection import Connection
from attestd_agent.tpm_endorsement import Endorsement, read_endorsement

BANKS: Final = {"sha1": 0x0004, "sha256": 0x000B, "sha384": 0x000C, "sha512": 0x000D}
QUOTE_ATTEMPTS: Final = 5
"""Quotes taken until their registers stand still; each further one means that something was just measured."""
PCRS_PER_READ: Final = 8
"""TPM2_PCR_Read returns at most 8 digests (Part 2, 10.9.7: TPML_DIGEST)."""
SAVED_CONTEXTS: Final = 8
"""Key contexts kept in memory: EK, AK, SRK and a few device keys."""
_ECDSA_SHA256: Final = bytes.fromhex("0018000b")  # TPMT_SIG_SCHEME


@cache
def _tss() -> Any:
    """Import the TSS binding on first use, so that a command that needs no TPM does not pay for it.

    Raises: TpmUnavailable where it is not installed.
    """
    # The C library prints every TPM error to stderr, expected ones too; they are all reported as exceptions here.
    os.environ.setdefault("TSS2_LOG", "all+NONE")
    try:
        import tpm2_pytss
    except ImportError as exc:
        raise TpmUnavailable(f"the TPM library is missing ({exc}): install attestd[agent] and libtss2") from exc
    return tpm2_pytss


class EsysTpm:
    """The device's TPM behind a TCTI string ("device:/dev/tpmrm0", "swtpm:path=…").

    One thread at a time. Nothing is opened before the first operation.
    """

    def __init__(self, tcti: str, *, owner_auth: bytes = b"", endorsement_auth: bytes = b"") -> None:
        self.commands = 0
        """TPM commands sent since this object was made."""
        self._tcti = tcti
        self._owner_auth = owner_auth
        self._endorsement_auth = endorsement_auth
        self._contexts: dict[str, Any] = {}
        self._publics: dict[str, bytes] = {}
        self._endorsement: Endorsement | None = None
        self._last_pcrs: tuple[tuple[int, bytes], ...] = ()

    def close(self) -> None:
        """Forget saved contexts, certificates and register values."""
        self._contexts.clear()
        self._publics.clear()
        self._endorsement = None
        self._last_pcrs = ()

    # --- Identity ---------------------------------------------------------------------------------------------------

    def ek_certificates(self) -> tuple[bytes, ...]:
        """Return the EK certificate and the chain certificates of NV, unchanged; empty where NV has none."""
        if self._endorsement is not None:
            return self._endorsement.certificates
        with self._open() as tpm:
            return self._read_endorsement(tpm).certificates

    def ek_public(self) -> bytes:
        """Return the TPM2B_PUBLIC of the EK whose template goes with the certificate in NV."""
        if "ek" not in self._publics:
            with self._open() as tpm:
                self._ek(tpm)
        return self._publics["ek"]

    def ak_public(self) -> bytes:
        """Return the TPM2B_PUBLIC of the attestation key."""
        if "ak" not in self._publics:
            with self._open() as tpm:
                self._ak(tpm)
        return self._publics["ak"]

    def activate(self, credential_blob: bytes, encrypted_secret: bytes) -> bytes:
        """Open a credential with the EK for the AK: TPM2_ActivateCredential (Part 3, 12.5)."""
        with self._open() as tpm:
            blob = tpm.parse("TPM2B_ID_OBJECT", credential_blob)
            secret = tpm.parse("TPM2B_ENCRYPTED_SECRET", encrypted_secret)
            ek, ak = self._ek(tpm), self._ak(tpm)
            sessions = {"session1": tpm.tss.ESYS_TR.PASSWORD, "session2": self._ek_session(tpm)}
            try:
                return bytes(tpm.run("activate_credential", ak, ek, blob, secret, **sessions))
            except TpmRefused as exc:
                # The input was well formed: what it cannot open was made for another TPM or another AK. Some chips
                # call a failed RSA decryption FAILURE; one that really failed says so again at the next command.
                if exc.code in ("malformed_input", "self_test_failed"):
                    raise TpmRefused("foreign_blob", str(exc), rc=exc.rc) from exc
                raise

    # --- Attestation ------------------------------------------------------------------------------------------------

    def quote(self, qualifying: bytes, *, bank: str, pcrs: tuple[int, ...]) -> QuoteResult:
        """Quote the registers and return them with values whose digest equals the quoted one.

        Raises: TpmRefused ``bank_not_active``, ``pcrs_moved`` (after QUOTE_ATTEMPTS), ``malformed_input``.
        """
        wanted = tuple(sorted(pcrs))
        if bank not in BANKS or not _plain_selection(wanted):
            raise TpmRefused("malformed_input", f"no such selection: {bank}:{pcrs}")
        selection = templates.pcr_selection(BANKS[bank], wanted)
        _check_qualifying(qualifying)
        with self._open() as tpm:
            ak = self._ak(tpm)
            for _ in range(QUOTE_ATTEMPTS):
                chosen = tpm.parse("TPML_PCR_SELECTION", selection)
                attest, signature = tpm.run("quote", ak, chosen, tpm.tss.TPM2B_DATA(qualifying))
                quoted = _quoted_digest(bytes(attest), selection)
                values = self._values(tpm, quoted, BANKS[bank], wanted)
                if values is not None:
                    return QuoteResult(bytes(attest), signature.marshal(), values)
        raise TpmRefused("pcrs_moved", f"registers still moved after {QUOTE_ATTEMPTS} quotes")

    def certify(self, key: KeyBlob, qualifying: bytes) -> Certification:
        """Certify a device key with the AK: TPM2_Certify (Part 3, 18.2)."""
        _check_qualifying(qualifying)
        with self._open() as tpm:
            subject, ak = self._loaded(tpm, key), self._ak(tpm)
            scheme = tpm.parse("TPMT_SIG_SCHEME", _ECDSA_SHA256)
            attest, signature = tpm.run("certify", subject, ak, tpm.tss.TPM2B_DATA(qualifying), scheme)
            return Certification(bytes(attest), signature.marshal())

    # --- Keys and secrets -------------------------------------------------------------------------------------------

    def create_device_key(self) -> KeyBlob:
        """Create a new signing key under the storage root key."""
        return self._create(templates.DEVICE_KEY, b"")

    def sign(self, key: KeyBlob, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with ECDSA: TPM2_Sign (Part 3, 20.2)."""
        if len(digest) != 32:
            raise TpmRefused("malformed_input", f"a SHA-256 digest has 32 bytes, not {len(digest)}")
        with self._open() as tpm:
            scheme = tpm.parse("TPMT_SIG_SCHEME", _ECDSA_SHA256)
            signature = tpm.run("sign", self._loaded(tpm, key), tpm.tss.TPM2B_DIGEST(digest), scheme)
            return bytes(signature.marshal())

    def seal(self, secret: bytes) -> KeyBlob:
        """Seal a secret under the storage root key."""
        if not 1 <= len(secret) <= 128:
            raise TpmRefused("malformed_input", "a sealed secret has 1 to 128 bytes")
        return self._create(templates.SEALED_DATA, secret)

    def unseal(self, blob: KeyBlob) -> bytes:
        """Return a sealed secret: TPM2_Unseal (Part 3, 12.7)."""
        with self._open() as tpm:
            return bytes(tpm.run("unseal", self._load(tpm, blob)))

    # --- Inside -----------------------------------------------------------------------------------------------------

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        """Open the TPM for one operation; flush and close whatever happens."""
        connection = Connection(_tss(), self._tcti)
        try:
            try:
                yield connection
            except (TpmRefused, TpmUnavailable):
                # The first failure is the one to report.
                with suppress(TpmRefused, TpmUnavailable):
                    connection.flush()
                raise
            connection.flush()
        finally:
            connection.close()
            self.commands += connection.commands

    def _primary(self, tpm: Connection, name: str, hierarchy: Any, public: bytes) -> Any:
        """Return a primary key, from its saved context where that still loads (not after a reset or a clear)."""
        handle = self._from_context(tpm, name)
        if handle is None:
            area = tpm.parse("TPM2B_PUBLIC", templates.to_2b(public))
            handle, out, *_ = tpm.run("create_primary", None, area, hierarchy)
            tpm.hold(handle)
            self._publics[name] = out.marshal()
            self._save_context(tpm, name, handle)
        return handle

    def _from_context(self, tpm: Connection, name: str) -> Any:
        if name not in self._contexts:
            return None
        try:
            return tpm.hold(tpm.run("context_load", self._contexts[name]))
        except TpmRefused as exc:
            if exc.code == "out_of_memory":
                raise
            del self._contexts[name]
            return None

    def _save_context(self, tpm: Connection, name: str, handle: Any) -> None:
        while len(self._contexts) >= SAVED_CONTEXTS:
            del self._contexts[next(iter(self._contexts))]
        self._contexts[name] = tpm.run("context_save", handle)

    def _ak(self, tpm: Connection) -> Any:
        endorsement = tpm.authorize(tpm.tss.ESYS_TR.ENDORSEMENT, self._endorsement_auth)
        return self._primary(tpm, "ak", endorsement, templates.ATTESTATION_KEY)

    def _srk(self, tpm: Connection) -> Any:
        owner = tpm.authorize(tpm.tss.ESYS_TR.OWNER, self._owner_auth)
        return self._primary(tpm, "srk", owner, templates.STORAGE_ROOT_KEY)

    def _ek(self, tpm: Connection) -> Any:
        endorsement = tpm.authorize(tpm.tss.ESYS_TR.ENDORSEMENT, self._endorsement_auth)
        return self._primary(tpm, "ek", endorsement, self._read_endorsement(tpm).area)

    def _read_endorsement(self, tpm: Connection) -> Endorsement:
        """Return what NV says about the EK, read once."""
        if self._endorsement is None:
            self._endorsement = read_endorsement(tpm, self._owner_auth)
        return self._endorsement

    def _ek_session(self, tpm: Connection) -> Any:
        """Return a policy session that satisfies PolicyA: PolicySecret of the endorsement hierarchy.

        A high-range EK takes its empty password instead, and needs no session.
        """
        tss = tpm.tss
        if self._read_endorsement(tpm).takes_password:
            return tss.ESYS_TR.PASSWORD
        session = tpm.run(
            "start_auth_session",
            tss.ESYS_TR.NONE,
            tss.ESYS_TR.NONE,
            tss.TPM2_SE.POLICY,
            tss.TPMT_SYM_DEF(algorithm=tss.TPM2_ALG.NULL),
            tss.TPM2_ALG.SHA256,
        )
        tpm.keep_session(tpm.hold(session))
        endorsement = tpm.authorize(tss.ESYS_TR.ENDORSEMENT, self._endorsement_auth)
        tpm.run("policy_secret", endorsement, session, expiration=0)
        return session

    def _create(self, area: bytes, secret: bytes) -> KeyBlob:
        """Create a child of the storage root key."""
        with self._open() as tpm:
            tss = tpm.tss
            public = tpm.parse("TPM2B_PUBLIC", templates.to_2b(area))
            sensitive = tss.TPM2B_SENSITIVE_CREATE(tss.TPMS_SENSITIVE_CREATE(data=tss.TPM2B_SENSITIVE_DATA(secret)))
            private, out, *_ = tpm.run("create", self._srk(tpm), sensitive, public)
            return KeyBlob(out.marshal(), private.marshal())

    def _load(self, tpm: Connection, blob: KeyBlob) -> Any:
        public = tpm.parse("TPM2B_PUBLIC", blob.public)
        private = tpm.parse("TPM2B_PRIVATE", blob.private)
        parent = self._srk(tpm)
        handle = tpm.hold(tpm.run("load", parent, private, public))
        tpm.release(parent)
        return handle

    def _loaded(self, tpm: Connection, key: KeyBlob) -> Any:
        """Return a device key, from its saved context where that still loads."""
        name = hashlib.sha256(key.public + key.private).hexdigest()
        handle = self._from_context(tpm, name)
        if handle is None:
            handle = self._load(tpm, key)
            self._save_context(tpm, name, handle)
        return handle

    def _values(
        self, tpm: Connection, quoted: bytes, bank: int, pcrs: tuple[int, ...]
    ) -> tuple[tuple[int, bytes], ...] | None:
        """Return the register values that a quote covers, or None if they have moved since.

        The values of the last quote are tried first: as long as nothing was measured no register is read at all.
        """
        if tuple(index for index, _ in self._last_pcrs) != pcrs or _digest(self._last_pcrs) != quoted:
            self._last_pcrs = _read_pcrs(tpm, bank, pcrs)
        return self._last_pcrs if _digest(self._last_pcrs) == quoted else None


class LabTpm(EsysTpm):
    """FOR LABORATORIES: does what firmware and an owner do, to software TPMs. Nothing on a device uses it."""

    def extend(self, events: Iterable[tuple[int, Mapping[str, bytes]]]) -> None:
        """Extend each (index, {bank: digest}) in order, over one connection."""
        with self._open() as tpm:
            for index, digests in events:
                tpm.run("pcr_extend", tpm.tss.ESYS_TR(index), _digest_values(tpm, digests))

    def read_pcrs(self, bank: str, pcrs: tuple[int, ...]) -> tuple[tuple[int, bytes], ...]:
        """Return the (index, value) pairs of a bank as they stand."""
        with self._open() as tpm:
            return _read_pcrs(tpm, BANKS[bank], pcrs)

    def shutdown(self) -> None:
        """Announce an orderly power-off: TPM2_Shutdown(CLEAR)."""
        with self._open() as tpm:
            tpm.run("shutdown", tpm.tss.TPM2_SU.CLEAR)

    def clear(self) -> None:
        """Reset the owner hierarchy with TPM2_Clear, as an operator who gives a machine away does."""
        with self._open() as tpm:
            tpm.run("clear", tpm.tss.ESYS_TR.LOCKOUT)

    def transient_handles(self) -> tuple[int, ...]:
        """Return the handles of loaded objects and sessions; empty after every call of an honest agent."""
        with self._open() as tpm:
            return tpm.handles(0x80000000) + tpm.handles(0x02000000) + tpm.handles(0x03000000)

    def clock(self) -> tuple[int, int, int, bool]:
        """Return (clock in ms, resetCount, restartCount, safe) of TPM2_ReadClock."""
        with self._open() as tpm:
            time = tpm.run("read_clock")
            info = time.clockInfo
            return int(info.clock), int(info.resetCount), int(info.restartCount), bool(info.safe)


def _plain_selection(pcrs: tuple[int, ...]) -> bool:
    """Tell whether the indices are distinct, at least one, and exist."""
    return bool(pcrs) and len(set(pcrs)) == len(pcrs) and all(0 <= index < limits.PCR_COUNT for index in pcrs)


def _check_qualifying(data: bytes) -> None:
    if len(data) > limits.MAX_NONCE:
        raise TpmRefused("malformed_input", f"{len(data)} bytes of qualifying data, at most {limits.MAX_NONCE}")


def _digest(pcrs: tuple[tuple[int, bytes], ...]) -> bytes:
    """Return what the AK (SHA-256) puts into a quote over these values (Part 3, 18.4: TPM2_Quote)."""
    return hashlib.sha256(b"".join(value for _, value in pcrs)).digest()


def _quoted_digest(attest: bytes, selection: bytes) -> bytes:
    """Return pcrDigest of a quote that covers exactly the selection asked for (Part 2, 10.12.12: TPMS_ATTEST).

    Raises: TpmRefused ``bank_not_active`` where the TPM dropped registers from the selection (Part 3, 18.4.1).
    """
    at = 6  # magic and type
    for _ in ("qualifiedSigner", "extraData"):
        at += 2 + int.from_bytes(attest[at : at + 2], "big")
    at += 17 + 8  # clockInfo and firmwareVersion
    if attest[at : at + len(selection)] != selection:
        raise TpmRefused("bank_not_active", "the TPM quoted another selection than the one asked for")
    return attest[at + len(selection) + 2 :]


def _read_pcrs(tpm: Connection, bank: int, pcrs: tuple[int, ...]) -> tuple[tuple[int, bytes], ...]:
    """Read registers, eight at a time.

    Raises: TpmRefused ``bank_not_active`` where the TPM returns fewer values than were asked for.
    """
    values: list[tuple[int, bytes]] = []
    for start in range(0, len(pcrs), PCRS_PER_READ):
        part = pcrs[start : start + PCRS_PER_READ]
        _, _, digests = tpm.run("pcr_read", tpm.parse("TPML_PCR_SELECTION", templates.pcr_selection(bank, part)))
        if len(digests) != len(part):
            raise TpmRefused("bank_not_active", f"{len(digests)} of {len(part)} registers")
        values += zip(part, (bytes(item) for item in digests), strict=True)
    return tuple(values)


def _digest_values(tpm: Connection, digests: Mapping[str, bytes]) -> Any:
    tss = tpm.tss
    rows = [tss.TPMT_HA(hashAlg=BANKS[bank], digest=tss.TPMU_HA(**{bank: value})) for bank, value in digests.items()]
    return tss.TPML_DIGEST_VALUES(rows)

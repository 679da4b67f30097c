"""Every bound of the system, each with its reason.

A bound that stands anywhere else is a defect: whoever reviews what a stranger can make the verifier do
reads this file and nothing more.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- Messages -------------------------------------------------------------------------------------------------------
MAX_BODY: Final = 8 * MIB
"""Bytes of one request. The largest honest one is a first boot with a full IMA list (about 100,000 entries of 70 bytes)."""
MAX_ANONYMOUS_BODY: Final = 32 * KIB
"""Bytes of an enrolment request. Nothing has been proved yet; EK certificates with their intermediates reach about 12 KiB."""
MAX_JSON_BODY: Final = 64 * KIB
"""Bytes of a message in JSON, the encoding for people: parsing it costs ten times what CBOR costs."""
MAX_ITEMS: Final = 1000
"""Items of a request, counted before one is made: numbers, strings, containers. The largest honest request, with 24 registers,
16 labels and 8 certificates, has about 200; 8 MiB of empty maps would be seconds of work and half a gigabyte."""
MAX_ANSWER_ITEMS: Final = 8192
"""Items of an answer, which a device reads from a server that it knows: 256 findings of 13 items each, and a chain."""
MAX_NESTING: Final = 8
"""Containers inside containers in a message. The deepest message of the protocol needs 4."""
MAX_TEXT: Final = 1024
"""Characters of any text a device sends: labels and references, never documents."""
MAX_JSON_INTEGER: Final = 2**64 - 1
"""No field of the protocol is wider than the TPM's own 64-bit integers."""
MAX_BODY_SECONDS: Final = 20.0
"""A body that trickles longer than this is a slow-loris; 8 MiB in 20 s is 3.4 Mbit/s, and such a body is sent once a boot."""
MAX_BODIES_HELD: Final = 64 * MIB
"""Bytes of all bodies over 32 KiB that a process holds, coming or waiting for their answer: eight of the largest, hundreds of
first boots. Beyond it whoever has been sending for longest is given up."""
MAX_HEADER_SECONDS: Final = 10.0
"""From the first byte of a connection to the end of its request head."""
MAX_HEADER_BYTES: Final = 16 * KIB
"""Bytes of a request head; the protocol needs under 1 KiB, a bearer token under 200 bytes."""
MAX_IDLE_SECONDS: Final = 75
"""Keep-alive without a request. A site proxy re-uses a connection within a minute; a device comes back on a new one."""
MAX_HANDSHAKE_SECONDS: Final = 10.0
"""From a connection's first packet to the end of its TLS handshake, and for its farewell: three round trips, by satellite two
seconds each."""
MAX_HANDSHAKES: Final = 5000
"""Handshakes at a time, about 50 KiB each; beyond it the oldest ends for the newest."""
RESERVED_DESCRIPTORS: Final = 128
"""Descriptors that connections never take: the database's, the log's, those of threads that read files."""
MAX_CONNECTIONS: Final = 20_000
"""Sockets of one process; above it a newcomer is told to come back (503, Retry-After)."""

# --- Waiting for one another ----------------------------------------------------------------------------------------
LONG_PROOF: Final = 64 * KIB
"""Bytes of a boot log and a runtime list in one proof, above which routine proofs do not wait behind it: 64 KiB cost about
3 ms, the largest list a second. Boot logs of real machines mostly have less."""
MAX_WAITING_LONG: Final = 64
"""Long proofs that wait for their turn."""
TURN_SECONDS: Final = 0.05
"""Processor time of one long proof that a device has at any time: 16,000 entries of a runtime list."""
TURN_PAUSE: Final = 4
"""A longer one is followed by a pause of so many times its length: one device gets a fifth of the turns at most."""
MAX_WAITING_CHALLENGES: Final = 1024
"""First messages of enrolments that wait: about two seconds of work."""
MAX_WAITING_ENROLMENTS: Final = 512
"""Second messages of enrolments that wait: about three seconds of work."""
MAX_WAITING_PUBLIC: Final = 256
"""Requests for what is public and stored: each is one read of under a millisecond."""
MAX_SWEEP_AGE: Final = 30.0
"""Seconds since the sweep last succeeded, above which the verifier says that it is not well: silent devices are not expired."""

# --- Enrolment ------------------------------------------------------------------------------------------------------
MAX_EK_CERTIFICATES: Final = 8
"""Leaf and intermediates out of NV. The longest chain seen on real chips has 4."""
MAX_CERTIFICATE: Final = 8 * KIB
"""Bytes of one certificate. The largest of 3,427 vendor certificates measured is under 3 KiB; NV padding adds up to 2 KiB."""
MAX_CHAIN_DEPTH: Final = 6
"""Certificates from the EK to its anchor."""
MAX_CHAIN_CANDIDATES: Final = 16
"""Signatures tried while building one path. No chain of 450 vendor authorities needed more than 2 at a step; a stranger pays
for each with a round trip and we with a millisecond at worst."""
MAX_CHALLENGERS: Final = 16
"""Independent challengers in one enrolment."""
MAX_VPN_KEYS: Final = 4
"""VPN public keys that one device registers, one for each kind."""
MAX_LABELS: Final = 16
"""Self-declared labels of a device."""

# --- TPM structures -------------------------------------------------------------------------------------------------
MAX_TPM_STRUCTURE: Final = 4 * KIB
"""Bytes of one marshalled TPM structure; the largest defined buffer (TPM2B_MAX_BUFFER and keys of RSA 4096) stays under 2 KiB."""
MAX_PCR_SELECTIONS: Final = 5
"""Banks in one TPML_PCR_SELECTION: one for each hash algorithm the verifier knows."""
PCR_COUNT: Final = 24
"""Platform configuration registers of a PC client (PTP 1.05, 4.6.2); an index above 23 is refused."""
MAX_NONCE: Final = 64
"""Bytes of a challenge, the size of the largest digest a TPM will take as qualifying data."""
MIN_NONCE: Final = 16
"""128 bits: below that a challenge can repeat or be guessed."""

# --- Event log ------------------------------------------------------------------------------------------------------
MAX_EVENT_LOG: Final = 4 * MIB
"""Bytes of a boot event log. The largest of 70 real ones is under 200 KiB; firmware reserves 64 KiB to 1 MiB."""
MAX_EVENTS: Final = 8192
"""Events of one log; real machines log 30 to 400."""
MAX_EVENT_DATA: Final = 2 * MIB
"""Bytes of one event's data. A dbx of 2026 is under 32 KiB, an ACPI table or an SBOM under 1 MiB."""
MAX_DIGESTS: Final = 5
"""Digest algorithms in one event."""
MAX_DEVICE_PATH_NODES: Final = 64
"""Nodes of one UEFI device path. Real ones have up to 12; the text grows with each."""
MAX_VARIABLE_NAME: Final = 1024
"""UTF-16 units of a UEFI variable's name; the longest defined name has under 40."""
MAX_SIGNATURES: Final = 16_384
"""Entries of one signature database. The dbx of 2026 holds under 1,000 hashes and fits 32 KiB of flash."""
MAX_PARTITIONS: Final = 256
"""Entries of one GPT event: tables are made for 128."""

EVENT_MEMO_ENTRIES: Final = 8192
"""Examined events that are remembered: those of some tens of different images. What is remembered can be forgotten."""
EVENT_MEMO_DATA: Final = 4 * KIB
"""Bytes of data of an event that is remembered; with the entries above at most 32 MiB."""
EVENT_MEMO_PARTS: Final = 16
"""Further things in an event that is remembered (Windows writes hundreds into one): each costs a quarter of a kilobyte."""

# --- Runtime list ---------------------------------------------------------------------------------------------------
MAX_IMA_LIST: Final = 8 * MIB
"""Bytes of a runtime list in one message: about 65,000 entries. A longer one grows over several routine proofs, each from the
offset of the last; at an enrolment it has to fit."""
MAX_IMA_ENTRIES: Final = 150_000
"""Entries of one list; lists of long-running servers reach 100,000."""
MAX_IMA_TEMPLATE: Final = 64 * KIB
"""Bytes of one entry's template data: a path of 4 KiB, a signature of 1 KiB and a measured buffer (keyring, kexec command line)."""
MAX_IMA_TEMPLATE_NAME: Final = 255
"""Bytes of a template's name or format; the kernel's own are under 80."""

# --- Files that a person inspects -----------------------------------------------------------------------------------
INSPECTED_IMA: Final = 64 * MIB
"""Bytes of a runtime list in a file: 100,000 entries with signatures and certificates' buffers reach 40 MB."""
INSPECTED_DOCUMENT: Final = 2 * MIB
"""Bytes of a manifest, a platform certificate, a quote's tuple, a result: the largest of 200 has under 200 KiB."""
INSPECTED_CERTIFICATE: Final = 256 * KIB
"""Bytes of a file with one certificate, its wrapping and the authorities behind it; NV indices have 2 KiB, chains in PEM 20 KiB."""
INSPECTED_BUNDLE: Final = 16 * MIB
"""Bytes of a bundle of authorities: 450 manufacturers' certificates in PEM have under 1 MiB."""
INSPECTED_NESTING: Final = 32
"""Containers inside containers of a manifest: CoRIM nests tagged documents, SWID directories; real ones need under 16."""
INSPECTED_ITEMS: Final = 100_000
"""Items of one manifest, whatever their kind; a reference manifest of a server lists under 2,000 files."""
INSPECTED_PATH: Final = KIB
"""Characters of a path in a manifest: each file repeats its directories, which a document names once; real ones have under 300."""
INSPECTED_NAMESPACES: Final = 64
"""XML namespaces in scope at one element: each element that declares one copies them all; manifests have under 10."""

# --- File trees and images that become allow-lists ------------------------------------------------------------------
MAX_ARTEFACT_FILES: Final = 1_000_000
"""Files of one place; a server's root file system has up to 500,000, and each costs a kilobyte while the list is made."""
MAX_ARTEFACT_BYTES: Final = 64 * 1024 * MIB
"""Bytes that one archive unpacks to: images of whole machines stay under it, and an archive of zeros ends there."""
MAX_ARTEFACT_FINDINGS: Final = 256
"""Findings of one place; 100,000 unreadable files have said all by then."""
MAX_FILE_PATH: Final = 4096
"""Bytes of a path or of a symbolic link's target (PATH_MAX of Linux)."""

# --- Boot images and keys that become predictions -------------------------------------------------------------------
MAX_BOOT_IMAGE: Final = 2048 * MIB
"""Bytes of a boot loader, a kernel, a unified kernel image or an initial ramdisk; they are mapped and hashed, not copied. A unified
image with firmware and a whole system in its ramdisk stays under 1 GiB, which is what an EFI system partition has."""
MAX_IMAGE_SECTIONS: Final = 96
"""Sections of an executable image, as many as Windows loads (PE/COFF 3.3); a unified kernel image has under 20."""
MAX_SECTION_PADDING: Final = MIB
"""Zero bytes behind a measured section that are in memory and not in the file: alignment, at most a page in real images."""
MAX_KEY_FILE: Final = 2 * MIB
"""Bytes of a Secure Boot key file; the largest published list of what may not boot is under 32 KiB."""
MAX_BOOT_ARTEFACTS: Final = 64
"""Images, ramdisks and key files of one prediction."""

# --- Policy ---------------------------------------------------------------------------------------------------------
MAX_PROFILE_DOCUMENT: Final = 4 * MIB
"""Bytes of a profile's canonical document: 20,000 allow-list entries."""
MAX_PATTERN: Final = 256
"""Characters of one pattern in a profile. Patterns are globs that match in linear time; regular expressions are not offered."""
MAX_FINDINGS: Final = 256
"""Findings of one result, as many as the protocol's messages carry; 100,000 strange files have said all by then."""
MAX_FINDING_TEXT: Final = 4 * KIB
"""Characters of a measured text in a finding: the longest kernel command line. A longer text is told by its digest."""
MAX_INVENTORY_ROWS: Final = 250_000
"""Rows of one inventory change."""

# --- Time -----------------------------------------------------------------------------------------------------------
ENROLMENT_NONCE_SECONDS: Final = 120
"""Life of an enrolment challenge. A slow chip needs under 20 s for activation, certify and quote."""
CERTIFICATE_MAX_SECONDS: Final = 24 * 3600
"""Longest life of a device certificate."""
GRANT_SECONDS: Final = 60
"""A grant that was not used within a minute is void."""
RESULT_SKEW_SECONDS: Final = 60
"""How far a relying party's clock may be behind the verifier's when it reads a result."""
MAX_RESULT_TOKEN: Final = 16 * KIB
"""Characters of an attestation result token; the usual one has 1,100."""
MIN_INTERVAL_SECONDS: Final = 5
MAX_INTERVAL_SECONDS: Final = 24 * 3600

"""Q03, Q04, Q05: a quote over other registers than were asked for, and values beside it that are not the quoted ones."""

from collections.abc import Callable
from dataclasses import replace

import pytest

import tpm_structures as tpm
from attestd.protocol.messages import PcrValue
from attestd.protocol.reasons import Reason
from exchanges import Attestation, Enrolment, Exchange, refused
from softchip import PCRS, SoftChip
from world import World

SHA256 = tpm.SHA256_ID
SM3, SHA3_256 = 0x0012, 0x0027
Banks = tuple[tuple[int, tuple[int, ...]], ...]

RELABELLED = tuple(index for index in PCRS if index != 10)
SELECTIONS: dict[str, Banks] = {
    "one register fewer": ((SHA256, PCRS[:-1]),),
    "without the boot loader": ((SHA256, tuple(index for index in PCRS if index != 4)),),
    "the last register alone": ((SHA256, (14,)),),
    "one register more": ((SHA256, (*PCRS, 15)),),
    "every register": ((SHA256, tuple(range(24))),),
    "16 in the place of 10": ((SHA256, (*RELABELLED, 16)),),
    "23 in the place of 10": ((SHA256, (*RELABELLED, 23)),),
    "nothing of the bank": ((SHA256, ()),),
    "no bank": (),
    "another bank beside it": ((tpm.SHA1_ID, PCRS), (SHA256, PCRS)),
    "another bank behind it": ((SHA256, PCRS), (tpm.SHA384_ID, PCRS)),
    "an empty bank beside it": ((SHA256, PCRS), (tpm.SHA1_ID, ())),
    "the whole selection twice": ((SHA256, PCRS), (SHA256, PCRS)),
    "one register in two selections": ((SHA256, PCRS), (SHA256, (0,))),
    "two halves that overlap": ((SHA256, PCRS[:8]), (SHA256, PCRS[7:])),
    "two halves": ((SHA256, PCRS[:8]), (SHA256, PCRS[8:])),
    "more banks than there are": tuple((SHA256, (index,)) for index in range(6)),
}


def over(chip: SoftChip, nonce: bytes, banks: Banks) -> dict[str, object]:
    """Return a quote over these selections, honest but for them, and the values in the order of the selections."""
    pcrs = tuple(index for _, indices in banks for index in indices)
    return {"quote": chip.quote(nonce, pcrs=pcrs, banks=banks), "pcrs": chip.values(tuple(sorted(set(pcrs))))}


# --- Q03 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banks", SELECTIONS.values(), ids=SELECTIONS)
def test_q03_quote_over_another_selection_is_refused(exchange: Exchange, banks: Banks) -> None:
    exchange.refuse(Reason.QUOTE_SELECTION, **over(exchange.chip, exchange.bound(), banks))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("other", [16, 23])
def test_q03_resettable_register_relabelled_as_the_runtime_list_is_refused(exchange: Exchange, other: int) -> None:
    """The value is right, the digest is right, and the message calls register 16 or 23 "10"."""
    pcrs = (*RELABELLED, other)
    exchange.chip.registers[other] = exchange.chip.registers[10]
    quote = exchange.chip.quote(exchange.bound(), pcrs=pcrs)
    values = tuple(replace(one, index=10) if one.index == other else one for one in exchange.chip.values(pcrs))
    exchange.refuse(Reason.QUOTE_SELECTION, quote=quote, pcrs=values)
    exchange.refuse(Reason.QUOTE_SELECTION, quote=quote, pcrs=tuple(sorted(values, key=lambda one: one.index)))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("size", [0, 5, 255])
def test_q03_bitmap_of_impossible_size_is_refused(exchange: Exchange, size: int) -> None:
    entry = tpm.u32(1) + tpm.u16(SHA256) + bytes((size,)) + bytes((255, 127, *bytes(253)))[:size]
    attest = tpm.attest_head(0x8018, nonce=exchange.bound(), **exchange.chip.head()) + entry + tpm.sized(bytes(32))
    exchange.refuse(Reason.QUOTE_SELECTION, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("size", [2, 4])
def test_q03_same_registers_in_a_bitmap_of_another_size_are_refused(exchange: Exchange, size: int) -> None:
    body = tpm.selection([(SHA256, PCRS)], size=size) + exchange.chip.quote(b"").attest[-34:]
    attest = tpm.attest_head(0x8018, nonce=exchange.bound(), **exchange.chip.head()) + body
    exchange.refuse(Reason.QUOTE_SELECTION, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q03_register_that_no_tpm_has_is_refused(exchange: Exchange) -> None:
    body = tpm.selection([(SHA256, (*PCRS, 24))], size=4) + tpm.sized(bytes(32))
    attest = tpm.attest_head(0x8018, nonce=exchange.bound(), **exchange.chip.head()) + body
    exchange.refuse(Reason.QUOTE_SELECTION, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def test_q03_count_of_selections_that_is_not_there_is_refused(exchange: Exchange) -> None:
    for count, reason in ((5, Reason.QUOTE_SELECTION), (0xFFFFFFFF, Reason.QUOTE_SELECTION)):
        body = tpm.u32(count) + tpm.selection([(SHA256, PCRS)])[4:] * min(count, 5) + tpm.sized(bytes(32))
        attest = tpm.attest_head(0x8018, nonce=exchange.bound(), **exchange.chip.head()) + body
        exchange.refuse(reason, quote=signed(exchange.chip, attest))
    assert exchange.send().state == "trusted"


def signed(chip: SoftChip, attest: bytes) -> object:
    return replace(chip.quote(b""), attest=attest, signature=chip.sign(attest))


# --- Q04 ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bank", [tpm.SHA1_ID, tpm.SHA384_ID, tpm.SHA512_ID, SM3, SHA3_256, 0, tpm.NULL, 0xFFFF])
def test_q04_bank_that_nobody_asked_for_is_refused(exchange: Exchange, bank: int) -> None:
    exchange.refuse(Reason.QUOTE_SELECTION, **over(exchange.chip, exchange.bound(), ((bank, PCRS),)))
    assert exchange.send().state == "trusted"


def test_q04_bank_that_was_never_extended_is_refused(exchange: Exchange) -> None:
    honest = dict(exchange.chip.registers)
    exchange.chip.registers = {index: bytes(32) for index in range(24)}
    exchange.refuse(Reason.PCR_BANK_INACTIVE, quote=exchange.chip.quote(exchange.bound()), pcrs=exchange.chip.values())
    exchange.chip.registers = honest
    assert exchange.send().state == "trusted"


def test_q04_bank_that_the_operating_system_alone_extended_is_refused(exchange: Exchange) -> None:
    """Register 8 to 14 look healthy; what booted them is not measured in this bank."""
    honest = dict(exchange.chip.registers)
    exchange.chip.registers = {index: bytes(32) if index < 8 else honest[index] for index in range(24)}
    exchange.refuse(Reason.PCR_BANK_INACTIVE, quote=exchange.chip.quote(exchange.bound()), pcrs=exchange.chip.values())
    exchange.chip.registers = honest
    assert exchange.send().state == "trusted"


# --- Q05 ----------------------------------------------------------------------------------------------------------------


def test_q05_values_that_are_missing_are_refused(exchange: Exchange) -> None:
    values = exchange.chip.values()
    for fewer in (values[:-1], values[1:], values[:4] + values[5:]):
        exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=fewer)
    assert exchange.send().state == "trusted"


def test_q05_no_values_at_all_are_refused_at_enrolment(enrolment: Enrolment) -> None:
    enrolment.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=())
    assert enrolment.send().state == "trusted"


def test_q05_values_beside_the_quoted_ones_are_refused(exchange: Exchange) -> None:
    values = exchange.chip.values()
    for more in ((*values, PcrValue(15, bytes(32))), (*values, PcrValue(23, values[10].value))):
        exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=more)
    assert exchange.send().state == "trusted"


def test_q05_value_that_stands_twice_is_refused(exchange: Exchange) -> None:
    values = exchange.chip.values()
    forged = replace(values[4], value=bytes(32))
    for doubled in ((*values, forged), (*values[:4], forged, *values[4:]), (values[0],) * len(values)):
        exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=doubled)
    assert exchange.send().state == "trusted"


def test_q05_values_in_another_order_are_refused(exchange: Exchange) -> None:
    values = exchange.chip.values()
    exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=values[::-1])
    exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=(values[1], values[0], *values[2:]))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("size", [20, 31, 33, 48, 64])
def test_q05_value_of_another_length_is_refused(exchange: Exchange, size: int) -> None:
    values = exchange.chip.values()
    bent = replace(values[0], value=values[0].value.ljust(size, b"\0")[:size])
    exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=(bent, *values[1:]))
    assert exchange.send().state == "trusted"


def test_q05_border_between_two_values_cannot_be_moved(exchange: Exchange) -> None:
    """Concatenated, these are the quoted bytes: the digest alone would not notice."""
    values = exchange.chip.values()
    first, second = values[0].value, values[1].value
    moved = (replace(values[0], value=first + second[:8]), replace(values[1], value=second[8:]))
    exchange.refuse(Reason.PCR_VALUES_MALFORMED, pcrs=(*moved, *values[2:]))
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("size", [0, 19, 65])
def test_q05_value_of_no_digests_length_has_no_form(exchange: Exchange, size: int) -> None:
    values = (replace(exchange.chip.values()[0], value=bytes(size)), *exchange.chip.values()[1:])
    refused(exchange.world, lambda: exchange.send(pcrs=values), Reason.MESSAGE_MALFORMED)
    assert exchange.send().state == "trusted"


@pytest.mark.parametrize("index", [24, 255, 2**63])
def test_q05_register_that_does_not_exist_has_no_form(exchange: Exchange, index: int) -> None:
    values = (*exchange.chip.values()[:-1], PcrValue(index, bytes(32)))
    refused(exchange.world, lambda: exchange.send(pcrs=values), Reason.MESSAGE_MALFORMED)
    assert exchange.send().state == "trusted"


def test_q05_good_values_beside_the_quote_of_a_bad_boot_decide_nothing(exchange: Exchange) -> None:
    good, log = exchange.chip.values(), exchange.chip.event_log
    honest = dict(exchange.chip.registers)
    exchange.chip.registers[9] = bytes(31) + b"\1"
    bad = exchange.chip.quote(exchange.bound())
    exchange.refuse(Reason.QUOTE_PCR_DIGEST, quote=bad, pcrs=good, event_log=log)
    exchange.chip.registers = honest
    assert exchange.send().state == "trusted"


def test_q05_registers_that_moved_and_were_not_sent_are_asked_for(world: World, chip: Callable[..., SoftChip]) -> None:
    routine = Attestation(world, chip())
    honest = dict(routine.chip.registers)
    routine.chip.registers[4] = bytes(31) + b"\1"
    routine.refuse(Reason.PCR_VALUES_NEEDED, pcrs=())
    routine.chip.registers = honest
    assert routine.send(pcrs=()).state == "trusted"


def test_q05_stored_values_that_do_not_fit_the_quote_are_asked_for(world: World, chip: Callable[..., SoftChip]) -> None:
    """Whoever writes good values into the database still does not get them past the quote."""
    routine = Attestation(world, chip())
    world.verifier.boots._items.clear()
    with world.verifier.store.write() as connection:
        connection.exec_driver_sql(
            "UPDATE device_evidence SET pcrs = ? WHERE device_id = ?", (bytes(480), routine.chip.device_id)
        )
    routine.refuse(Reason.PCR_VALUES_NEEDED, pcrs=(), event_log=None)
    assert routine.send().state == "trusted"

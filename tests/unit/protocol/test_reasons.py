"""The table of reasons: complete, stable in form, and the same on both sides of the wire."""

import json
import re

import pytest

from attestd.api.problems import problem
from attestd.errors import Refused
from attestd.protocol.codec import to_base64url
from attestd.protocol.messages import Finding
from attestd.protocol.reasons import PROBLEM_TYPE_PREFIX, PROBLEMS, Reason


def test_every_reason_has_a_problem_and_every_problem_a_reason() -> None:
    assert set(PROBLEMS) == set(Reason)


def test_no_two_reasons_have_one_code() -> None:
    assert len({reason.value for reason in Reason}) == len(Reason.__members__)


@pytest.mark.parametrize("reason", Reason)
def test_a_reason_can_be_read_by_programs_and_by_people(reason: Reason) -> None:
    known = PROBLEMS[reason]
    assert re.fullmatch(r"[a-z]+(-[a-z0-9]+)*", reason.value)
    assert reason.name == reason.value.upper().replace("-", "_")
    assert 400 <= known.status < 600
    assert known.title
    assert not known.title.endswith(".")
    assert known.advice.endswith(".")


@pytest.mark.parametrize("reason", Reason)
def test_a_problem_says_the_reason_and_never_the_detail(reason: Reason) -> None:
    status, body, headers = problem(Refused(reason, "expected sha256:00ff"))
    document = json.loads(body)
    known = PROBLEMS[reason]
    assert {name: document[name] for name in ("type", "title", "status", "code", "advice")} == {
        "type": PROBLEM_TYPE_PREFIX + reason.value,
        "title": known.title,
        "status": known.status,
        "code": reason.value,
        "advice": known.advice,
    }
    assert status == known.status
    assert (b"00ff" in body) == (reason is Reason.MESSAGE_MALFORMED), "the place in one's own message is no secret"
    assert (b"www-authenticate" in dict(headers)) == (status == 401)


def test_a_problem_carries_the_nonce_the_findings_and_the_time_to_wait() -> None:
    finding = Finding("claim-mismatch", "kernel", "vmlinuz <b>", "one that the profile accepts", 9, 4)
    refused = Refused(Reason.LOG_NEEDED, findings=(finding,), nonce=bytes(40), retry_after=7)
    _, body, headers = problem(refused)
    document = json.loads(body)
    assert document["nonce"] == to_base64url(bytes(40))
    assert document["findings"][0]["component"] == "vmlinuz <b>"
    assert dict(headers)[b"retry-after"] == b"7"


@pytest.mark.parametrize("reason", [Reason.SERVER_BUSY, Reason.INTERNAL, Reason.MESSAGE_TIMEOUT])
def test_who_is_told_to_come_back_is_told_when(reason: Reason) -> None:
    assert int(dict(problem(Refused(reason))[2])[b"retry-after"]) > 0

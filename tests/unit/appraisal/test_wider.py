"""Whether a policy about runtime lists accepts all that another accepted: yes only where the policies alone say so."""

from dataclasses import replace
from typing import Any

import pytest

from attestd.appraisal.policy import NO_RUNTIME, Check, RuntimePolicy, Violations
from attestd.appraisal.wider import accepts_all_of

ONE, TWO = ("sha256", b"1" * 32), ("sha256", b"2" * 32)
EARLIER = RuntimePolicy(Check.REQUIRED, (("/bin/app", (ONE,)),), ("/tmp/*",), Violations.REFUSE)


def changed(**fields: Any) -> RuntimePolicy:
    return replace(EARLIER, **fields)


@pytest.mark.parametrize(
    "later",
    [
        EARLIER,
        changed(allow=(("/bin/app", (ONE, TWO)),)),
        changed(allow=(("/bin/app", (ONE,)), ("/bin/more", (TWO,)))),
        changed(exclude=("/run/*", "/tmp/*")),
        changed(check=Check.OPTIONAL),
        changed(violations=Violations.WARN),
        changed(violations=Violations.ALLOW),
        NO_RUNTIME,
    ],
)
def test_a_policy_that_allows_as_much_or_more_is_wider(later: RuntimePolicy) -> None:
    assert accepts_all_of(later, EARLIER)


@pytest.mark.parametrize(
    "later",
    [
        changed(allow=(("/bin/app", (TWO,)),)),
        changed(allow=(("/bin/other", (ONE,)),)),
        changed(allow=(("/bin/app", (("sha1", b"1" * 20),)),)),
        changed(exclude=()),
        changed(exclude=("*",)),
        changed(check=Check.ABSENT),
    ],
)
def test_a_policy_that_allows_less_or_something_else_is_not(later: RuntimePolicy) -> None:
    assert not accepts_all_of(later, EARLIER)


def test_an_affirming_list_under_a_warning_about_violations_had_none() -> None:
    assert accepts_all_of(EARLIER, changed(violations=Violations.WARN))


@pytest.mark.parametrize("violations", [Violations.WARN, Violations.REFUSE])
def test_violations_that_nobody_counted_may_be_there(violations: Violations) -> None:
    assert not accepts_all_of(changed(violations=violations), changed(violations=Violations.ALLOW))
    assert accepts_all_of(changed(violations=Violations.ALLOW), changed(violations=Violations.ALLOW))


@pytest.mark.parametrize("earlier", [NO_RUNTIME, changed(check=Check.ABSENT)])
def test_a_list_that_was_not_judged_says_nothing(earlier: RuntimePolicy) -> None:
    assert not accepts_all_of(EARLIER, earlier)

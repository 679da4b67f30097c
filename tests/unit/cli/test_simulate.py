"""How far a long look has come is told on standard error, and only when it is long."""

import pytest

from attestd import clock
from attestd.cli.simulate import progress_on_stderr


def test_a_short_look_says_nothing_and_a_long_one_once_a_second(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = [100.0]
    monkeypatch.setattr(clock, "monotonic", lambda: seconds[0])
    told = progress_on_stderr()
    for at, count in ((100.5, 500), (101.2, 1_000), (101.9, 1_500), (102.3, 2_000)):
        seconds[0] = at
        told(count)
    said = capsys.readouterr()
    assert (said.out, said.err.splitlines()) == ("", ["looked at 1000 devices …", "looked at 2000 devices …"])

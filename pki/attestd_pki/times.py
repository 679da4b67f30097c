"""A Time of a certificate (RFC 5280, 4.1.2.5), as unix seconds.

Proves that the octets name one instant. DER wants UTC with seconds; times without seconds, with a fraction or with an offset from
UTC (X.680, 46 and 47) still name one instant and are told as deviations. A time without any zone is the time of a place that
nobody names, and is refused.
"""

import re
from datetime import UTC, datetime
from typing import Final

from attestd_pki import der
from attestd_pki.errors import PkiError

UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18

_REST = rb"(\d\d)(\d\d)(\d\d)(\d\d)?(?:[.,]\d{1,9})?(Z|[+-]\d{4})"
_FORMS: Final = {
    UTC_TIME: re.compile(rb"(\d\d)(\d\d)" + _REST),
    GENERALIZED_TIME: re.compile(rb"(\d{4})(\d\d)" + _REST),
}
_PLAIN: Final = {UTC_TIME: 13, GENERALIZED_TIME: 15}


def read_time(element: der.Element) -> tuple[int, tuple[str, ...]]:
    """Return (unix seconds, deviations). *Raises* PkiError `certificate-malformed`."""
    form = _FORMS.get(element.tag)
    match = form.fullmatch(element.content) if form is not None else None
    if match is None:
        raise PkiError("certificate-malformed", "a time is neither UTCTime nor GeneralizedTime with a zone")
    year, *rest = (int(part or b"0") for part in match.groups()[:6])
    if element.tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000
    try:
        moment = datetime(year, *rest, tzinfo=UTC)  # type: ignore[misc, arg-type]
        seconds = int(moment.timestamp()) - _offset(match[7])
    except (ValueError, OverflowError) as error:
        raise PkiError("certificate-malformed", "a time is not in the calendar") from error
    return seconds, tuple(_odd(element, match, year))


def in_words(seconds: int) -> str:
    """Return an instant as people write it, in UTC; the number itself where no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(seconds)


def _offset(zone: bytes) -> int:
    """Return the seconds by which a place is ahead of UTC (X.680, 46.3)."""
    if zone == b"Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[3:5])
    if hours > 14 or minutes > 59:
        raise ValueError("no place on earth has this offset")
    return (hours * 3600 + minutes * 60) * (-1 if zone[:1] == b"-" else 1)


def _odd(element: der.Element, match: "re.Match[bytes]", year: int) -> list[str]:
    odd = []
    if match[7] != b"Z":
        odd.append("time-with-offset")
    elif len(element.content) != _PLAIN[element.tag]:
        odd.append("time-not-plain")
    if element.tag == GENERALIZED_TIME and year < 2050:
        odd.append("generalized-time-before-2050")
    return odd

"""Rules of admission: what becomes of a device that nobody announced, by the maker and model in its EK certificate.

Proves, of `Rules`, that every pattern is bounded and matches in linear time (P06). The first rule that matches decides;
none means that a person decides. Assumes that manufacturer and model come from a certificate that was verified.
"""

from dataclasses import dataclass
from typing import Any, Final

from attestd.appraisal.pattern import glob_matches
from attestd.changes import bounds, canonical
from attestd.changes.errors import ChangeRefused
from attestd.protocol import limits
from attestd_pki import names
from attestd_pki.errors import PkiError

SUBJECT: Final = "rules"
"""The subject of every change of the rules: there is one list."""


@dataclass(frozen=True, slots=True)
class AdmissionRule:
    """One rule: patterns (`*` stands for any run of characters) and the profile; None: ask a person."""

    manufacturer: str
    model: str
    profile: str | None

    def matches(self, manufacturer: str, model: str) -> bool:
        """Return whether both patterns cover the whole of both texts."""
        return glob_matches(self.manufacturer, manufacturer) and glob_matches(self.model, model)


def rules_document(rules: tuple[AdmissionRule, ...]) -> bytes:
    """Return the canonical document of a list of rules. *Raises* ChangeRefused as `read_rules`."""
    listed = [{"manufacturer": rule.manufacturer, "model": rule.model, "profile": rule.profile} for rule in rules]
    body = canonical.write({"rules": listed})
    read_rules(body)
    return body


def read_rules(body: bytes) -> tuple[AdmissionRule, ...]:
    """Return the rules of a canonical document, in their order. *Raises* ChangeRefused `change-malformed`, `rules-malformed`."""
    document = canonical.read(body)
    if set(document) != {"rules"} or type(document["rules"]) is not list or len(document["rules"]) > bounds.MAX_RULES:
        raise ChangeRefused("rules-malformed", f"the document is not a list of at most {bounds.MAX_RULES} rules")
    return tuple(_rule(item, number) for number, item in enumerate(document["rules"], 1))


def _rule(item: Any, number: int) -> AdmissionRule:
    if type(item) is not dict or set(item) != {"manufacturer", "model", "profile"}:
        raise ChangeRefused("rules-malformed", "a rule has manufacturer, model and profile", row=number)
    for column in ("manufacturer", "model"):
        text = item[column]
        if type(text) is not str or not 0 < len(text) <= limits.MAX_PATTERN or not text.isprintable():
            raise ChangeRefused("rules-malformed", "not a pattern", row=number, column=column)
    if item["profile"] is not None:
        _require_label(item["profile"], number)
    return AdmissionRule(item["manufacturer"], item["model"], item["profile"])


def _require_label(text: Any, number: int) -> None:
    try:
        names.parse_label(text if type(text) is str else "")
    except PkiError as error:
        raise ChangeRefused("rules-malformed", error.message, row=number, column="profile") from error

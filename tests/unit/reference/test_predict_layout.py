"""A next version that would differ from the one before in more than was predicted is not written."""

import hashlib

import pytest

from attestd.reference.boot import Artefact
from attestd.reference.draft import next_version
from attestd.reference.files import ArtefactRefused
from attestd.reference.predict import Boot, predict
from attestd.reference.yamledit import Edited
from boot_artefacts import loader

BASE = """profile: edge
version: 1
claims:
  loader:
    check: required
    accept:
      - digest: sha256:{digest}
  gpt: {{check: absent}}
""".format(digest=hashlib.sha256(b"a loader").hexdigest())


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ("check: required", "check: optional"),
        ("gpt: {check: absent}", "gpt: {check: ignored}"),
        ("\n  loader:", "\n  mok:"),
    ],
)
def test_an_edit_that_misses_its_place_is_refused(here: str, there: str, monkeypatch: pytest.MonkeyPatch) -> None:
    prediction = predict(Boot(loader=Artefact("loader.efi", loader())), "sha256")
    assert next_version(BASE, prediction).profile.version == 2
    honest = Edited.applied
    monkeypatch.setattr(Edited, "applied", lambda self: honest(self).replace(here, there, 1))
    with pytest.raises(ArtefactRefused) as refusal:
        next_version(BASE, prediction)
    assert refusal.value.code == "profile-layout"

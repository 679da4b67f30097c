"""What a person sees who starts a verifier by hand, and whom a hint of the next command would lead to another one."""

import json
import shutil
import ssl
import subprocess
import urllib.request
from pathlib import Path

import pytest

from installation import ATTESTD, attestd

pytest_plugins = ("installation",)


def test_serve_says_in_one_line_when_and_where_it_answers(installation: Path) -> None:
    shutil.copy(installation / "tls/anchor.pem", installation / "anchors/maker.pem")
    command = [ATTESTD, "serve", "-d", str(installation), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = next(line for line in map(json.loads, process.stderr) if line["event"] == "ready")
            trusted = ssl.create_default_context(cafile=str(installation / "tls/anchor.pem"))
            with urllib.request.urlopen(
                f"https://localhost:{said['port']}/v1/health", timeout=10, context=trusted
            ) as answer:
                status = answer.status
        finally:
            process.terminate()

    assert (said["event"], said["url"].startswith("https://"), status) == ("ready", True, 200)


@pytest.mark.parametrize("named", [True, False])
def test_the_hint_after_a_draft_names_the_verifier_that_was_named(
    installation: Path, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    profile = installation / "edge.yaml"
    profile.write_text(
        "profile: edge\nversion: 1\nclaims:\n  secure-boot: {check: required, accept: [{text: enabled}]}\n"
    )
    monkeypatch.setenv("ATTESTD_DIRECTORY", str(installation))
    spoken = attestd("profile", "add", profile, *(["-d", installation] if named else []))

    hint = spoken.stdout.splitlines()[-1].partition("#")[0].strip()
    assert hint == "attestd profile activate edge 1" + (f" -d {installation}" if named else "")

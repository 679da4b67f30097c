"""The demonstration, whole, as a newcomer runs it: it must come true, say so, and leave nothing running."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from attestd.cli.demo import story
from installation import ATTESTD, attestd
from swtpm import SWTPM_MARKS

pytestmark = SWTPM_MARKS


def running_in(place: Path) -> list[str]:
    """Return the command lines of processes that have something to do with this directory."""
    found = []
    for process in psutil.process_iter(["cmdline", "pid"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(place) in line and process.info["pid"] != os.getpid():
            found.append(line)
    return found


def test_demo_comes_true_in_under_a_minute_and_leaves_nothing_running(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    done = subprocess.run(
        [ATTESTD, "demo", "--json", "-d", str(place)], capture_output=True, text=True, timeout=110, check=False
    )
    document = json.loads(done.stdout)
    assert [step for step in document["steps"] if not step["ok"]] == []
    assert (done.returncode, document["ok"], done.stderr) == (0, True, "")
    assert document["seconds"] < 60
    assert {step["actual"] for step in document["steps"] if step["subject"] in ("edge-3", "edge-5")} == {
        "refused: claim-mismatch kernel-command-line",
        "refused: ek-chain-untrusted",
    }
    assert running_in(place) == []
    assert (place / "verifier" / "attestd.toml").is_file()


def test_demo_in_which_something_unexpected_happens_fails_and_says_what(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(story, "SHELL", story.GOOD)  # edge-3 boots what it should, and so is not refused
    spoken = attestd("demo")
    assert spoken.exit_code == 1
    assert "1 of 17 steps did not go as expected" in spoken.stdout
    assert "edge-3: trusted, not refused: claim-mismatch kernel-command-line" in " ".join(spoken.stdout.split())


def test_demo_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([ATTESTD, "demo"], env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        for line in process.stdout:
            if "attestd serve" in line:
                break
        (place,) = tmp_path.glob("attestd-demo-*")
        assert running_in(place)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    assert running_in(place) == []
    assert list(tmp_path.iterdir()) == []


def test_kept_demo_goes_on_until_it_is_interrupted(tmp_path: Path) -> None:
    place = tmp_path / "demo"
    command = [ATTESTD, "demo", "--keep", "-d", str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        told = []
        for line in process.stdout:
            told.append(line)
            if "curl" in line:
                break
        time.sleep(3)  # the three agents prove themselves once more
        listed = attestd("device", "list", "--state", "trusted", "-d", place / "verifier", "--json").document["devices"]
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert sorted(device["name"] for device in listed) == ["edge-1", "edge-2", "edge-4"]
    assert process.returncode == 0
    assert running_in(place) == []
    assert any("attestd device ban edge-1" in line for line in told)


def test_demo_without_software_tpms_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    spoken = attestd("demo")
    assert (spoken.exit_code, spoken.error) == (3, "demo-unavailable")
    assert "apt-get install swtpm swtpm-tools" in spoken.stderr


def test_demo_uses_no_directory_that_exists(tmp_path: Path) -> None:
    spoken = attestd("demo", "-d", tmp_path)
    assert (spoken.exit_code, spoken.error) == (3, "demo-unavailable")
    assert list(tmp_path.iterdir()) == []

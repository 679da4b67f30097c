"""Settings: every unsafe or misspelt one is refused with what to write."""

from pathlib import Path

import pytest

from attestd_agent import config
from attestd_agent.client import Server
from attestd_agent.errors import ConfigurationError

PIN = "07:6F:1C:51:E3:3A:50:34:D3:7E:28:1E:69:5E:0F:55:55:5D:9B:BE:46:8B:2E:27:42:C1:AF:C6:F9:5B:A4:88"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def test_file_is_read(file: Path) -> None:
    file.write_text('server = "https://Verifier.Example:8443"\nanchor = "/etc/anchor.pem"\ntcti = "swtpm:"\n')
    settings = config.load(file, {}, {})
    assert settings.verifier() == Server("verifier.example", 8443)
    assert (settings.anchor, settings.tcti) == (Path("/etc/anchor.pem"), "swtpm:")


def test_environment_beats_the_file_and_flags_beat_both(file: Path) -> None:
    file.write_text('server = "https://file"\ntcti = "file"\nevent_log = "/file"\n')
    environment = {"ATTESTD_AGENT_SERVER": "https://environment", "ATTESTD_AGENT_TCTI": "environment"}
    settings = config.load(file, environment, {"server": "https://flag"})
    assert settings.server == Server("flag", 443)
    assert (settings.tcti, settings.event_log) == ("environment", Path("/file"))


def test_environment_can_name_the_file(file: Path) -> None:
    file.write_text('tcti = "x"')
    assert config.load(None, {"ATTESTD_AGENT_CONFIG": str(file)}, {}).tcti == "x"


def test_anchor_of_a_stronger_layer_replaces_the_pin_of_a_weaker_one(file: Path) -> None:
    file.write_text(f'server = "https://v"\nanchor_fingerprint = "{PIN}"\n')
    settings = config.load(file, {}, {"anchor": "/a.pem"})
    settings.verifier()
    assert (settings.anchor, settings.anchor_fingerprint) == (Path("/a.pem"), None)


def test_defaults_need_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "DEFAULT_FILE", tmp_path / "none")
    settings = config.load(None, {}, {})
    assert settings == config.Settings()
    assert settings.tcti == "device:/dev/tpmrm0"


@pytest.mark.parametrize(
    "text",
    [
        "http://verifier.example",
        "verifier.example",
        "https://",
        "https://v/path",
        "https://user@v",
        "https://user:pw@v",
        "https://v?x",
        "https://v#x",
        "https://v:99999",
        "https://v:x",
        "https://v ",
        "https://[::1",
        "https://vérifier.example",
        "ftp://v",
        "",
    ],
)
def test_t06_address_that_is_not_plain_https_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="https://"):
        config.parse_server(text)


@pytest.mark.parametrize(
    ("text", "server"),
    [
        ("https://V.example", Server("v.example", 443)),
        ("https://v.example./", Server("v.example", 443)),
        ("https://[::1]:8443", Server("::1", 8443)),
        ("https://127.0.0.1:1", Server("127.0.0.1", 1)),
    ],
)
def test_address_is_taken_apart(text: str, server: Server) -> None:
    assert config.parse_server(text) == server


@pytest.mark.parametrize("text", [PIN, PIN.replace(":", ""), PIN.lower(), f"sha256:{PIN}", f"sha256 Fingerprint={PIN}"])
def test_fingerprint_is_read_in_every_usual_form(text: str) -> None:
    assert config.parse_fingerprint(text) == bytes.fromhex(PIN.replace(":", ""))


@pytest.mark.parametrize("text", ["", PIN[:-1], PIN + ":00", PIN.replace("0", "g"), "sha1:" + PIN, "00" * 20])
def test_anything_else_is_no_fingerprint(text: str) -> None:
    with pytest.raises(ConfigurationError, match="64 hex digits"):
        config.parse_fingerprint(text)


@pytest.mark.parametrize(
    ("flags", "advice"),
    [
        ({}, "server ="),
        ({"server": "https://v"}, "anchor"),
        ({"server": "https://v", "anchor": "/a", "anchor_fingerprint": PIN}, "exactly one"),
    ],
)
def test_missing_server_or_anchor_is_told_with_what_to_do(flags: dict[str, str], advice: str, file: Path) -> None:
    file.write_text("")
    with pytest.raises(ConfigurationError, match=advice):
        config.load(file, {}, flags).verifier()


@pytest.mark.parametrize(
    ("content", "advice"),
    [
        ("serverr = 'https://v'", "'serverr' is not a setting"),
        ("verify = false", "'verify' is not a setting"),
        ("tcti = 5", "tcti is not a text"),
        ("tcti = ''", "tcti is not a text"),
        ("[server]\nurl = 'x'", "server is not a text"),
        ("tcti = ", "is not TOML"),
        ("tcti = '\xff'", "is not TOML"),
        ("#" * (config.MAX_FILE + 1), "longer than"),
    ],
)
def test_file_with_anything_unknown_is_refused(file: Path, content: str, advice: str) -> None:
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigurationError, match=advice):
        config.load(file, {}, {})


def test_named_file_must_exist(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        config.load(file, {}, {})


def test_every_setting_has_a_field() -> None:
    assert set(config.SETTINGS) == set(config.Settings.__dataclass_fields__)

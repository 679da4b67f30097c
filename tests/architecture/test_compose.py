"""docker-compose.yml: valid by the Compose Specification's schema, without secrets, and with scripts that run.

The schema is the one that check-jsonschema carries (Apache-2.0, from github.com/compose-spec). No container is started here.
"""

import ast
import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OWN = [name for name, service in SERVICES.items() if service["image"] == "attestd-laboratory"]
_SCHEMA = resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"


def test_the_file_follows_the_specification() -> None:
    jsonschema.validate(COMPOSE, json.loads(_SCHEMA.read_text()))


def test_a_misspelt_key_would_be_noticed() -> None:
    wrong = {"services": {"verifier": {"image": "x", "depends_upon": ["y"]}}}

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(wrong, json.loads(_SCHEMA.read_text()))


def test_c07_no_service_has_a_password_and_no_port_is_published() -> None:
    assert not re.search(r"(?i)(password|secret)\w*['\"]?\s*[:=]", yaml.safe_dump(COMPOSE))
    assert [name for name, service in SERVICES.items() if "ports" in service] == []


@pytest.mark.parametrize("name", OWN)
def test_a_service_of_ours_is_confined(name: str) -> None:
    service = SERVICES[name]

    assert (service["read_only"], service["cap_drop"], service["security_opt"]) == (
        True,
        ["ALL"],
        ["no-new-privileges:true"],
    )


def test_the_database_has_no_network() -> None:
    assert SERVICES["postgresql"]["network_mode"] == "none"


def test_volumes_and_services_that_are_named_exist() -> None:
    mounted = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}
    awaited = {name for service in SERVICES.values() for name in service.get("depends_on", ())}

    assert (mounted, awaited - set(SERVICES)) == (set(COMPOSE["volumes"]), set())


def test_what_the_image_copies_exists() -> None:
    copies = re.findall(
        r"^\s*COPY (?!--from)(.+) \S+$", SERVICES["prepare"]["build"]["dockerfile_inline"], re.MULTILINE
    )

    assert copies
    assert [name for line in copies for name in line.split() if not (ROOT / name).exists()] == []


def _scripts() -> list[str]:
    texts = [text for service in SERVICES.values() for text in service.get("command", ()) if "\n" in text]
    heredocs = [found for text in texts for found in re.findall(r"<<'PYTHON'\n(.*?)PYTHON", text, re.DOTALL)]
    return [*heredocs, *(text for text in texts if "PYTHON" not in text)]


@pytest.mark.parametrize("script", _scripts(), ids=["prepare", "device"])
def test_what_the_scripts_import_exists(script: str) -> None:
    imports = [node for node in ast.walk(ast.parse(script)) if isinstance(node, ast.ImportFrom)]

    for node in imports:
        module = __import__(node.module or "", fromlist=[alias.name for alias in node.names])
        assert all(hasattr(module, alias.name) for alias in node.names)
    assert imports

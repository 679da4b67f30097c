"""The contracts of the architecture hold, and each of them fails on a planted violation."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("attestd", "agent", "pki")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

PLANTS = {
    "rooms": ("attestd/attestd/tpm/planted.py", "import attestd.appraisal"),
    "pure": ("attestd/attestd/evidence/planted.py", "import socket"),
    "pki-alone": ("pki/attestd_pki/planted_up.py", "import attestd.protocol.limits"),
    "agent-sees-protocol": ("agent/attestd_agent/planted_room.py", "import attestd.evidence.quote"),
    "agent-sees-names": ("agent/attestd_agent/planted_pki.py", "import attestd_pki.grant"),
    "agent-apart": ("attestd/attestd/services/planted_agent.py", "import attestd_agent.tpm"),
    "tpm-library": ("agent/attestd_agent/planted_tss.py", "import tpm2_pytss"),
    "sql": ("attestd/attestd/api/planted_sql.py", "import sqlalchemy"),
    "http": ("attestd/attestd/store/planted_http.py", "import fastapi"),
}
"""Contract → a file that breaks it."""


def _lint(tree: Path) -> str:
    """Run import-linter over a copy of the three packages and return what it says."""
    script = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    paths = os.pathsep.join(str(tree / package) for package in PACKAGES)
    done = subprocess.run(
        [sys.executable, "-c", script, "--config", str(tree / "pyproject.toml"), "--no-cache", "--no-logo"],
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "200"},
        cwd=tree,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    return done.stdout + done.stderr


def _copy(tree: Path) -> Path:
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


@pytest.fixture(scope="module")
def verdict_on_violations(tmp_path_factory: pytest.TempPathFactory) -> str:
    tree = _copy(tmp_path_factory.mktemp("violated"))
    for path, line in PLANTS.values():
        (tree / path).write_text(f'"""Planted."""\n\n{line}\n')
    return _lint(tree)


def test_the_code_as_it_stands_breaks_no_contract(tmp_path: Path) -> None:
    verdict = _lint(_copy(tmp_path))

    assert f"{len(CONTRACTS)} kept, 0 broken" in verdict, verdict


def test_every_contract_has_a_planted_violation() -> None:
    assert {contract["id"] for contract in CONTRACTS} == set(PLANTS)


@pytest.mark.parametrize("contract", CONTRACTS, ids=lambda contract: contract["id"])
def test_a_planted_violation_breaks_the_contract(contract: dict[str, str], verdict_on_violations: str) -> None:
    assert f"{contract['name']} BROKEN" in verdict_on_violations, verdict_on_violations


def test_a_room_without_a_place_breaks_the_order(tmp_path: Path) -> None:
    tree = _copy(tmp_path)
    (tree / "attestd/attestd/cellar.py").write_text('"""Planted."""\n')

    assert f"{CONTRACTS[0]['name']} BROKEN" in _lint(tree)

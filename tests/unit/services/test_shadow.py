"""What staged versions say is read by nobody who decides: the rooms' own imports say so."""

import ast
from pathlib import Path

import pytest

import attestd

PRODUCT = Path(attestd.__file__).parent
DECIDING = (
    "attest",
    "enrol",
    "issue",
    "judge",
    "publish",
    "recall",
    "records",
    "relying",
    "storing",
    "sweep",
    "custody",
)
WATCHING = ("attestd.services.shadow", "attestd.services.kept", "attestd.services.simulate", "attestd.store.shadow")


def imported(path: Path) -> set[str]:
    """Return every module that a file imports, and every name that it takes out of one."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


@pytest.mark.parametrize("service", DECIDING)
def test_no_service_that_decides_knows_of_shadow_verdicts(service: str) -> None:
    assert imported(PRODUCT / "services" / f"{service}.py").isdisjoint(WATCHING)


@pytest.mark.parametrize("route", ["devices", "relying_parties", "batching"])
def test_no_route_knows_of_shadow_verdicts(route: str) -> None:
    assert imported(PRODUCT / "api" / f"{route}.py").isdisjoint(WATCHING)


@pytest.mark.parametrize("service", [*DECIDING, "tokens", "policy"])
def test_no_service_that_decides_asks_for_staged_versions(service: str) -> None:
    calls = ast.walk(ast.parse((PRODUCT / "services" / f"{service}.py").read_text()))
    asked = [node for node in calls if isinstance(node, ast.Attribute) and node.attr == "staged"]
    owners = [ast.unparse(node.value) for node in asked]
    assert owners == (["book"] if service == "policy" else [])

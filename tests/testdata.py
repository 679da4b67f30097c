"""Evidence of real machines, which lies beside the project and is read in place."""

import json
from pathlib import Path
from typing import Any

import pytest

TESTDATA = Path(__file__).resolve().parents[2] / "shared" / "testdata"

needs_testdata = pytest.mark.skipif(
    not (TESTDATA / "manifest.json").is_file(),
    reason=f"no evidence of real machines beside the project ({TESTDATA.name}/)",
)


def manifest_items(*kinds: str) -> list[dict[str, Any]]:
    """Return the manifest's items of these kinds, or none where the data is absent."""
    path = TESTDATA / "manifest.json"
    if not path.is_file():
        return []
    return [item for item in json.loads(path.read_text())["items"] if item["kind"] in kinds]

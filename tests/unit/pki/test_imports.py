"""A device installs cbor2 and cryptography, and this package has to be content with them."""

import subprocess
import sys

import pytest

MODULES = [
    "bounds",
    "certificate",
    "chain",
    "crl",
    "der",
    "development",
    "ekcert",
    "errors",
    "extensions",
    "grant",
    "issuer",
    "names",
    "profiles",
    "revocation",
    "signatures",
    "unwrap",
]
PROGRAM = """
import importlib, sys
for absent in ("attestd", "pyasn1", "pyasn1_modules", "OpenSSL", "pydantic", "sqlmodel", "fastapi"):
    sys.modules[absent] = None
importlib.import_module("attestd_pki." + sys.argv[1])
print(sorted({"sqlite3", "httpx"} & set(sys.modules)))
"""


@pytest.mark.parametrize("module", MODULES)
def test_a_module_is_imported_without_the_servers_libraries(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_names_need_the_standard_library_alone() -> None:
    program = "import sys; sys.modules['cryptography'] = sys.modules['cbor2'] = None; import attestd_pki.names"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr

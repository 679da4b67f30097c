"""One target under the fuzzer, in a process of its own: `python -m fuzz.one NAME SECONDS DIRECTORY`.

Every input that breaks the rule is kept, one for each place in the code where it broke, and the search goes on. What the fuzzer's
engine itself notices (an input that never ends, memory without bound, a crash of native code) ends the process, and it keeps that.
"""

import hashlib
import sys
from pathlib import Path
from random import Random
from typing import Any, Final

import atheris

with atheris.instrument_imports(include=["attestd", "attestd_agent", "attestd_pki"], enable_loader_override=False):
    from fuzz.targets import TARGETS, real_seeds

from fuzz.mutation import HOSTILE, mutate
from fuzz.target import LONGEST, violation

HANG: Final = 20
"""Seconds after which the engine gives up an input."""
RSS_MIB: Final = 1536
SLOWER: Final = 6.0
"""How much slower than plain code instrumented code may be; whoever reads the findings tries each without."""
MOST_FINDINGS: Final = 20


def seed(name: str, place: Path) -> None:
    """Write the seeds where the engine finds them."""
    place.mkdir(parents=True, exist_ok=True)
    target = TARGETS[name]
    for data in (*target.seeds(), *real_seeds(target), *(one for one in HOSTILE if len(one) <= 300)):
        (place / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)


def main(name: str, seconds: str, directory: str) -> None:
    """Fuzz one target. The engine ends the process."""
    target, place = TARGETS[name], Path(directory)
    corpus, findings = place / "corpus" / name, place / "findings" / name
    seed(name, corpus)
    findings.mkdir(parents=True, exist_ok=True)
    known: set[str] = set()

    def run(data: bytes) -> None:
        broken = violation(target, data, slower=SLOWER)
        if broken is None or broken[0] in known or len(known) >= MOST_FINDINGS:
            return
        known.add(broken[0])
        file = findings / hashlib.sha256(broken[0].encode()).hexdigest()[:12]
        if not file.exists() or file.stat().st_size > len(data):
            file.write_bytes(data)
            file.with_suffix(".txt").write_text(f"{broken[0]}\n\n{broken[1]}")

    def custom(data: bytes, most: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.5:
            return bytes(atheris.Mutate(data, most))[:most]
        return mutate(data, random, form=target.form, words=target.words)[:most]

    options: dict[str, Any] = {
        "max_total_time": seconds,
        "timeout": HANG,
        "rss_limit_mb": RSS_MIB,
        "max_len": LONGEST,
        "len_control": 20,
        "print_final_stats": 1,
        "artifact_prefix": f"{findings}/engine-",
    }
    if target.words:
        options["dict"] = place / f"{name}.dict"
        lines = ('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words)
        options["dict"].write_text("".join(lines))
    arguments = [sys.argv[0], *(f"-{key}={value}" for key, value in options.items()), str(corpus)]
    atheris.Setup(arguments, run, custom_mutator=custom if target.form != "bytes" else None)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""`make bench`: measure in one run, print ratios, write bench.json. Figures inform; they gate no test."""

import argparse
import os
import ssl
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import compute  # noqa: E402
import device  # noqa: E402
import growth  # noqa: E402
import limit  # noqa: E402
import load  # noqa: E402
import served  # noqa: E402
import trial  # noqa: E402
from report import Line, percentile, show, write  # noqa: E402
from rich.console import Console  # noqa: E402

import postgres  # noqa: E402
from attestd.protocol.messages import PATH_ATTEST  # noqa: E402

CONNECTIONS = 64


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work: rough figures in a minute")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    arguments = parser.parse_args()
    scale = 0.2 if arguments.quick else 1.0
    say = Console(stderr=True).print
    if os.getloadavg()[0] > 0.5 * (os.cpu_count() or 1):
        say("Others are using this machine: times will be long, and CPU time up to a third too high.")
    say("Measuring the limit …")
    v, sign, digest, commit = limit.verification_us(), limit.signature_us(), limit.hashing_us(), limit.commit_us()
    bound = v + sign + digest + commit
    lines = [
        Line("limit: verify + sign + hash + commit share", bound, "µs"),
        Line("  of which the share of a durable commit (SQLite, 32 in one)", commit, "µs"),
    ]
    say("Measuring the core without HTTP …")
    lines += compute.core(bound, v, scale)
    for name, database in _databases():
        say(f"Measuring HTTP on {name} …")
        with database as urls:
            if name == "PostgreSQL":
                share = limit.postgresql_commit_us(next(urls))
                lines.insert(2, Line("  the same on PostgreSQL, this process's part", share, "µs"))
            lines += _http(name, next(urls), v, scale)
            if name == "SQLite":
                say("Measuring a commit in a large fleet …")
                lines += growth.lines(name, next(urls), int(200 * scale))
                say("Measuring the trial of a profile …")
                lines += trial.lines(lambda urls=urls: next(urls), scale)
    say("Measuring the agent …")
    lines += device.lines()
    show(lines, v)
    write(lines, v, arguments.output)
    say(f"Written to {arguments.output}.")


def _databases() -> Iterator[tuple[str, AbstractContextManager[Iterator[str]]]]:
    """Yield (name, context of an endless supply of URLs of empty databases)."""
    yield "SQLite", _sqlite()
    if postgres.available():
        yield "PostgreSQL", _postgresql()
    else:
        Console(stderr=True).print(f"PostgreSQL is not measured: {postgres.INSTALL}")


@contextmanager
def _sqlite() -> Iterator[Iterator[str]]:
    with tempfile.TemporaryDirectory() as directory:
        yield (f"sqlite:///{directory}/{number}.db" for number in count())


@contextmanager
def _postgresql() -> Iterator[Iterator[str]]:
    with postgres.server() as server, ExitStack() as stack:
        yield (stack.enter_context(server.database()) for _ in count())


def _http(name: str, url: str, v: float, scale: float) -> list[Line]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        tls = served.certificate(directory)
        pid, pipe = stack.enter_context(load.in_process(served.verifier, url, CONNECTIONS, tls))
        plain, secure = pipe.recv()
        trusting = ssl.create_default_context(cafile=tls[0])
        routine = 3.3 if name == "PostgreSQL" else 3.8
        many, some = max(4, int(60 * scale)), max(2, int(12 * scale))
        lines = [
            _closed(f"routine, {name}", pid, plain, _bodies(pipe, "routine", many), v, routine),
            _closed(f"with its log, remembered, {name}", pid, plain, _bodies(pipe, "logs", some), v, 4.6),
            _closed(f"full log never seen before, {name}", pid, plain, _bodies(pipe, "fresh-logs", some), v, 7.2),
            _closed(
                f"routine, a new TLS connection each, {name}",
                pid,
                secure,
                _bodies(pipe, "routine", some),
                v,
                8.5,
                trusting,
            ),
        ]
        if name == "PostgreSQL":
            lines += _poisson(pid, plain, _bodies(pipe, "routine", int(300 * scale)), scale)
        return lines


def _bodies(pipe: Connection, kind: str, rounds: int) -> list[bytes]:
    pipe.send((kind, rounds))
    made: list[bytes] = pipe.recv()
    return made


def _closed(
    name: str, pid: int, port: int, bodies: list[bytes], v: float, target: float, context: ssl.SSLContext | None = None
) -> Line:
    meter = load.Meter(pid)
    taken, failed = load.closed_loop(port, bodies, path=PATH_ATTEST, connections=CONNECTIONS, context=context)
    cpu, wall = meter.read()
    if failed:
        raise SystemExit(f"{name}: {failed} of {len(bodies)} proofs were not answered with 200")
    each = cpu / len(bodies) * 1e6
    label = f"{name} ({len(bodies) / wall:,.0f} a second)"
    return Line(label, each, "µs", v, target, len(bodies), percentile(taken, 0.5), percentile(taken, 0.99))


def _poisson(pid: int, port: int, bodies: list[bytes], scale: float) -> list[Line]:
    rate = 100_000 / 300
    bodies = bodies[: int(60 * rate * scale)]
    meter = load.Meter(pid)
    taken, failed = load.open_loop(port, bodies, path=PATH_ATTEST, rate=rate, connections=CONNECTIONS)
    cpu, wall = meter.read()
    p50, p99 = percentile(taken, 0.5), percentile(taken, 0.99)
    return [
        Line("333 proofs a second (Poisson), PostgreSQL: errors", failed, "", target=0, n=len(bodies)),
        Line("  the same: p99", p99, "ms", target=15, n=len(bodies), p50_ms=p50, p99_ms=p99),
        Line("  the same: share of a core", 100 * cpu / wall, "%", target=40, n=len(bodies)),
    ]


if __name__ == "__main__":
    main()

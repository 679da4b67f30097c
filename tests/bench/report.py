"""One table and one file: what was measured, against the limit of the same run and the target that is aimed for."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True)
class Line:
    """One measurement. `ratio` is value over limit; a target is a bound of the ratio, of the value where there is no limit."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    target: float | None = None
    n: int = 0
    p50_ms: float | None = None
    p99_ms: float | None = None
    at_least: bool = field(default=False, compare=False)

    @property
    def ratio(self) -> float | None:
        """Value over limit, or None where there is no limit."""
        return self.value / self.limit if self.limit else None

    @property
    def reached(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        if self.target is None:
            return None
        measured = self.ratio if self.ratio is not None else self.value
        return measured >= self.target if self.at_least else measured <= self.target


def percentile(seconds: list[float], share: float) -> float:
    """Return a percentile of durations, in milliseconds."""
    ordered = sorted(seconds)
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def show(lines: list[Line], v_us: float) -> None:
    """Print the table."""
    table = Table(title=f"One ECDSA P-256 verification (V) = {v_us:.1f} µs of CPU in this run", title_justify="left")
    for column in ("benchmark", "value", "unit", "ratio", "target", "reached", "n", "p50 ms", "p99 ms"):
        table.add_column(column, justify="left" if column in ("benchmark", "unit") else "right")
    for line in lines:
        reached = {None: "", True: "[green]yes[/]", False: "[yellow]no[/]"}[line.reached]
        cells = (
            line.name,
            f"{line.value:,.2f}" if line.value < 1000 else f"{line.value:,.0f}",
            line.unit,
            "" if line.ratio is None else f"{line.ratio:.2f}",
            "" if line.target is None else f"{'≥' if line.at_least else '≤'} {line.target:g}",
            reached,
            str(line.n or ""),
            "" if line.p50_ms is None else f"{line.p50_ms:.1f}",
            "" if line.p99_ms is None else f"{line.p99_ms:.1f}",
        )
        table.add_row(*cells)
    Console(width=150).print(table)


def write(lines: list[Line], v_us: float, path: Path) -> None:
    """Write bench.json: the machine, V, and a list of measurements."""
    document = {
        "machine": {
            "cpu": _cpu(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
            "python": platform.python_version(),
            "load": os.getloadavg()[1],
        },
        "v_us": v_us,
        "results": [
            {**{key: value for key, value in asdict(line).items() if key != "at_least"}, "ratio": line.ratio}
            for line in lines
        ],
    }
    path.write_text(json.dumps(document, indent=1) + "\n")


def _cpu() -> str:
    try:
        names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    except OSError:
        names = []
    return names[0].partition(":")[2].strip() if names else platform.processor()

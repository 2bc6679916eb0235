"""Wall time and peak memory of `fleet run` on a fresh lake, and the time to load the definitions.

    .venv/bin/python -m benchmarks.weekly_cycle fleet.yaml [other.yaml ...] --json figures.json

Each configuration is run twice in a lake and a Dagster home of its own, which are thrown away: the first run does
everything, the second finds nothing new. Memory is the sum over the process and its children (JVM, workers), sampled
from /proc twice a second (proportional set size where the kernel gives it: shared pages count once).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from benchmarks.figures import show
from benchmarks.processes import family, resident_bytes

ROOT = Path(__file__).resolve().parent.parent
FLEET = Path(sys.executable).with_name("fleet")
LOADS = 3


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, {_memory_gib():.0f} GiB, Python {platform.python_version()}",
        "seconds to load the definitions": round(statistics.median(_load_seconds() for _ in range(LOADS)), 2),
        "fleets": [_fleet_figures(config.resolve()) for config in given.configs],
    }
    show(figures, given.json)


def _fleet_figures(config: Path) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        copy, environment = _fresh_copy(config, Path(folder))
        first = _timed([str(FLEET), "run", "--config", str(copy)], environment)
        second = _timed([str(FLEET), "run", "--config", str(copy)], environment)
        said = subprocess.run(
            [str(FLEET), "status", "--json", "--config", str(copy)],
            env=environment,
            capture_output=True,
            check=True,
        )
        return {
            "config": config.parent.name + "/" + config.name,
            "first run": first,
            "second run": second,
            "status": json.loads(said.stdout),
        }


def _fresh_copy(config: Path, folder: Path) -> tuple[Path, dict[str, str]]:
    document = yaml.safe_load(config.read_text())
    document["source"]["path"] = str((config.parent / document["source"]["path"]).resolve())
    document["lake"] = str(folder / "lake")
    copy, home = folder / "fleet.yaml", folder / "dagster"
    copy.write_text(yaml.safe_dump(document))
    home.mkdir()
    settings = (ROOT / "dagster.yaml").read_text().replace(".dagster", str(home / "storage"))
    (home / "dagster.yaml").write_text(settings)
    return copy, {**os.environ, "DAGSTER_HOME": str(home)}


def _timed(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(resident_bytes, family(process.pid))))
        time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return {"seconds": round(time.monotonic() - started, 1), "peak MiB": round(peak / 2**20)}


def _load_seconds() -> float:
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", "import orchestration.definitions"], cwd=ROOT, check=True)
    return time.monotonic() - started


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


if __name__ == "__main__":
    main()

"""Dagster's pages with tens of thousands of partitions: seconds until a browser shows what was asked for.

    .venv/bin/python benchmarks/ui_at_scale.py --segments 50000 --pictures /tmp/pictures --json figures.json

Makes an instance in a folder of its own: the partitions are added and recorded by the project's code in a real run
(every fiftieth segment failed), then some hundred scattered ones in a second run; only the training is left out.
Then it serves the project's definitions with `dagster-webserver` and opens pages in a headless Chromium (which
has to be on the PATH, with its chromedriver). Each round is a fresh browser; medians are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from browser import Browser, await_port, free_port
from dagster import AssetKey, AssetMaterialization, DagsterInstance, materialize
from recorded_fleet import FAILS, made_listing, recording_asset, segment_keys

from assets.partitions import add_partitions
from resources.settings import CONFIG_VARIABLE

ROOT = Path(__file__).resolve().parent.parent
NAME, ASSET, PARTITIONS = "scale", "segment_models", "scale_segments"
SCATTERED = 70  # the second run has every so manieth segment


def main() -> None:
    """Prepares an instance, measures its pages, and prints or writes the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--segments", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--home", type=Path, help="keep the instance here, and use it if it is there")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of each page")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = given.home or Path(folder)
        prepared = prepare(home.resolve(), given.segments)
        with webserver(home.resolve()) as address:
            pages = measured(address, prepared, given.rounds, given.pictures)
    figures = {
        "date": datetime.now(UTC).date().isoformat(),
        "segments": given.segments,
        "rounds": given.rounds,
        "seconds to prepare": prepared["seconds"],
        "seconds until shown": pages,
    }
    text = json.dumps(figures, indent=2)
    print(text)
    if given.json:
        given.json.write_text(text + "\n")


def prepare(home: Path, count: int) -> dict[str, Any]:
    """Makes the instance unless the folder has it, and gives its runs, a key and what it took."""
    note = home / "prepared.json"
    os.environ |= {"DAGSTER_HOME": str(home), CONFIG_VARIABLE: str(home / "fleet.yaml")}
    if note.exists():
        return dict(json.loads(note.read_text()))
    home.mkdir(parents=True, exist_ok=True)
    (home / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text().replace(".dagster", str(home / "storage")))
    fleet = {"name": NAME, "source": {"path": "none.parquet"}, "segment": ["store", "department"], "time": "day"}
    (home / "fleet.yaml").write_text(yaml.safe_dump({**fleet, "label": "sold", "lake": str(home / "lake")}))
    keys = segment_keys(count)
    with DagsterInstance.get() as instance:
        instance.report_runless_asset_event(AssetMaterialization([NAME, "features"]))  # what the models are made of
        started = time.perf_counter()
        add_partitions(instance, PARTITIONS, keys)
        added = time.perf_counter()
        run = record(instance, keys, "first")
        recorded = time.perf_counter()
        record(instance, keys[3::SCATTERED], "second")
    seconds = {"partitions added": round(added - started, 1), "recorded in one run": round(recorded - added, 1)}
    prepared = {"run": run, "key": keys[count // 2], "segments": count, "seconds": seconds}
    note.write_text(json.dumps(prepared))
    return prepared


def record(instance: DagsterInstance, keys: list[str], training: str) -> str:
    """Records segments as a training would have, in one run, and gives its id."""
    made = recording_asset(AssetKey([NAME, ASSET]), PARTITIONS, made_listing(keys, training), training)
    return materialize([made], instance=instance).run_id


@contextmanager
def webserver(home: Path) -> Iterator[str]:
    """Address of a webserver with the project's definitions."""
    port = free_port()
    program = Path(sys.executable).with_name("dagster-webserver")
    command = [str(program), "-m", "orchestration.definitions", "-p", str(port)]
    with (home / "webserver.log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
        try:
            await_port(port, 300)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def measured(address: str, prepared: dict[str, Any], rounds: int, pictures: Path | None) -> dict[str, float]:
    """Median seconds by page."""
    seconds: dict[str, list[float]] = {}
    for _ in range(rounds):
        with Browser() as browser:
            browser.seconds_until(f"{address}/overview", ["Overview"])  # loads the program itself
            for page, url, texts in pages_of(address, prepared):
                seconds.setdefault(page, []).append(browser.seconds_until(url, texts))
                print(f"{page}: {seconds[page][-1]:.1f} s", file=sys.stderr, flush=True)
                if pictures:
                    time.sleep(1)  # let what slides in come to rest
                    pictures.mkdir(parents=True, exist_ok=True)
                    browser.picture(pictures / f"{page.replace(' ', '_')}.png")
    return {page: round(statistics.median(all_of), 2) for page, all_of in seconds.items()}


def pages_of(address: str, prepared: dict[str, Any]) -> list[tuple[str, str, list[str]]]:
    """Pages by name: address, and what has to be on them."""
    asset, run = f"{address}/assets/{NAME}/{ASSET}", f"{address}/runs/{prepared['run']}"
    key, count = prepared["key"], prepared["segments"]
    marked = f"Materialized ({count - count // FAILS})"
    return [
        ("asset", f"{asset}?view=overview", ["Latest materialization", "ago", "trained"]),
        ("partitions", f"{asset}?view=partitions", [f"{count:,} Partitions Selected", marked, "department 00"]),
        ("one partition", f"{asset}?view=partitions&partition={quote(key)}", ["fold wape of model", "seconds"]),
        ("run opened", run, ["Success", "segment_models"]),
        ("run with its whole log", run, ["RUN_SUCCESS"]),
    ]


if __name__ == "__main__":
    main()

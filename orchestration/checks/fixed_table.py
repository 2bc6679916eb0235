"""The fixed table that a change is proven on: the same rows every time, with a lake and a Dagster of their own."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resources.location import is_local
from resources.problems import InputError, Problem
from resources.settings import CONFIG_VARIABLE, TARGET_VARIABLE, Settings, chosen_target

if TYPE_CHECKING:
    import pandas as pd

DEMO = "demo"
# what the temporary folder has instead
REPLACED = ("DAGSTER_HOME", "MLFLOW_TRACKING_URI", CONFIG_VARIABLE, TARGET_VARIABLE)
NEVER_STALE = 1 << 40  # periods
MANY = 20  # weeks that a table must have to be cut short by one
# small enough for three minutes, and with every oddity of the demo's
SIZE: dict[str, int] = {"stores": 4, "departments": 6, "days": 420, "seed": 11}


@dataclass(frozen=True)
class FixedTable:
    """The `fleet.yaml` to use, the table that it names, and the digest of that table's rows."""

    config: Path
    file: Path
    digest: str

    @contextmanager
    def a_week_before(self, settings: Settings) -> Iterator[bool]:
        """The table as it was a quarter of a horizon ago, while the `with` block is open; False if that cannot be told.

        So that a second cycle has an incumbent to judge: times must be times, as Parquet has them.
        """
        frame = _before(self.file, settings)
        if frame is None:
            yield False
            return
        whole = self.file.read_bytes()
        frame.to_parquet(self.file, index=False)
        try:
            yield True
        finally:
            self.file.write_bytes(whole)


@contextmanager
def on_fixed_table(config: Path, table: str) -> Iterator[FixedTable]:
    """A fleet like that of `config` on a fixed table (`demo`, or a file).

    Nothing outside a temporary folder is read or written by it: lake, MLflow and Dagster's state lie there.

    Raises:
        InputError: there is no such file.
    """
    import yaml

    kept = {name: os.environ.get(name) for name in REPLACED}
    with tempfile.TemporaryDirectory(prefix="fleet_check_") as scratch:
        folder = Path(scratch)
        file = _table_of(table, folder)
        at = folder / file.name  # the first week's rows, then all
        if at != file:
            shutil.copy(file, at)
        document = _of_target(config)
        source = {**document.get("source", {}), "path": str(at)}
        if source.get("format") == "sql":
            source = {"path": str(at)}
        # a fixed table grows old, which says nothing of a change
        checks = {**(document.get("checks") or {}), "freshness": NEVER_STALE}
        document |= {"source": source, "lake": str(folder / "lake"), "mlflow": {}, "checks": checks}
        document["dagster"] = {"home": str(folder / "dagster")}
        (folder / "fleet.yaml").write_text(yaml.safe_dump(document, allow_unicode=True), encoding="utf-8")
        for name in ("MLFLOW_TRACKING_URI", TARGET_VARIABLE):
            os.environ.pop(name, None)
        try:
            yield FixedTable(folder / "fleet.yaml", at, rows_digest(file))
        finally:
            for name, value in kept.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


def _before(file: Path, settings: Settings) -> pd.DataFrame | None:
    import pandas as pd

    if file.suffix != ".parquet" or settings.time is None:
        return None
    frame = pd.read_parquet(file)
    times, label = frame.get(settings.time), frame.get(settings.label)
    if times is None or label is None or not pd.api.types.is_datetime64_any_dtype(times):
        return None
    days = np.sort(times[label.notna()].unique())
    week = max(1, (settings.horizon or len(days) // MANY) // 4)
    if len(days) < MANY * week:
        return None
    unknown = times > days[-1 - week]
    after = [settings.label, *settings.features.past_only]
    last = days[-1 - week] + (times.max() - days[-1])
    return frame.assign(**{name: frame[name].where(~unknown) for name in after if name in frame})[times <= last]


def _of_target(config: Path) -> dict[str, Any]:
    """The document as it is for the target that is chosen."""
    from resources.document import read_document
    from resources.targets import with_target

    document, lines = read_document(config)
    return with_target(document, lines, chosen_target(), config.name)


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

"""The MLflow model of a published fleet: a small folder that says where in the lake its models lie."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from assets.champions.served_listing import FLEET, Published
from assets.evaluation.incumbent import LISTING_DIGEST, NEVER_SERVED, PUBLISHED, STATUS
from assets.models.quantiles import quantile_name
from assets.models.store import TRAINING
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.problems import InputError, Problem

FOLDER, DOCUMENT = "champion", "champion.json"
ENTRY = Path(__file__).with_name("served_entry.py")
NEEDED = ("mlflow", "lightgbm", "numpy", "pandas", "pyarrow", "deltalake", "dagster", "pydantic")


def log_served_model(
    mlflow: Mlflow, lake: Lake, tags: Mapping[str, str], document: Mapping[str, Any], levels: Sequence[float]
) -> str:
    """Logs a published fleet as a model that `mlflow models serve` can load, and what is said of it as champion.json.

    `tags` name the fleet (`published`) and its newest training, `levels` are those of its quantiles. Gives the source
    to register.
    """
    run = mlflow.run().active_run().info
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / FOLDER
        save_model(folder, ENTRY, pinned(NEEDED), levels)
        fleet = Published(lake.root, tags[PUBLISHED], tags[TRAINING], tags.get(LISTING_DIGEST))
        (folder / FLEET).write_text(fleet.to_json(), encoding="utf-8")
        (folder / DOCUMENT).write_text(json.dumps(document, indent=2, default=str), encoding="utf-8")
        # a run may register several versions
        kept = f"{FOLDER}/{tags[PUBLISHED]}"
        mlflow.client().log_artifacts(run.run_id, str(folder), kept)
    return f"{run.artifact_uri}/{kept}"


def refuse_never_served(name: str, version: int) -> None:
    """Nothing, if a registered version may serve.

    Raises:
        InputError: it was never approved, though an alias that was moved by hand may name it.
    """
    from mlflow import MlflowClient

    status = MlflowClient().get_model_version(name, str(version)).tags.get(STATUS)
    if status in NEVER_SERVED:
        remedy = f"fleet promote {version}, or serve models:/{name}@champion"
        raise InputError([Problem(f"version {version} of {name}", f"is {status}: it was never approved", remedy)])


def save_model(
    folder: Path, entry: Path, requirements: list[str], levels: Sequence[float], code: list[str] | None = None
) -> None:
    """Writes an MLflow model whose code is the file `entry`, which finds what else it needs beside itself.

    It has no signature of inputs: MLflow would drop columns that are not in it, a mistyped one unseen.
    """
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    kinds = {"forecast": DataType.double, "model": DataType.string, "version": DataType.long}
    optional = ["version", *map(quantile_name, levels)]
    kinds |= dict.fromkeys(optional[1:], DataType.double)
    outputs = Schema([ColSpec(kind, name, required=name not in optional) for name, kind in kinds.items()])
    with _quiet():
        mlflow.pyfunc.save_model(
            path=str(folder),
            python_model=str(entry),
            pip_requirements=requirements,
            code_paths=code,
            signature=ModelSignature(outputs=outputs),
        )


def pinned(packages: Iterable[str]) -> list[str]:
    """Requirements that ask for the versions installed here."""
    return [f"{name}=={version(name)}" for name in packages]


@contextmanager
def _quiet() -> Iterator[None]:
    """MLflow asks for type hints and an example of which it would make the schema that is not wanted, and for pip."""
    logger = logging.getLogger("mlflow.utils.environment")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    finally:
        logger.setLevel(level)

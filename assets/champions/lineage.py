"""Where a champion comes from: of each segment the snapshot, code, configuration and MLflow run behind its model."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pyarrow.compute as pc

from assets.evaluation.incumbent import Champion, published_champion
from assets.models.blend import shares_of, weights_of
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.models.store import TRAINING, UNKNOWN, WEIGHTS, Training, trainings
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.problems import InputError, Problem, nearest_segments

# fact -> key in a training's record
RECORDED = {
    "trained_through": "last_label",
    "snapshot": "raw_version",
    "snapshot_digest": "raw_digest",
    "features": "features_version",
    "features_digest": "features_digest",
    "features_code": "features_code_version",
    "models_code": "code_version",
    "recipe_digest": "recipe_digest",
    "configuration_digest": "configuration_digest",
}


def segment_lineage(lake: Lake, mlflow: Mlflow, segment: str) -> dict[str, Any]:
    """Who serves a segment in the champion, and what that model was made from; `unknown` where nothing was recorded.

    `weights` are by candidate; `model` is the file with the model (of a blend, each), relative to the lake, None for
    the baseline; `trained_through` is the last label of the training, None for a table without time.

    Raises:
        InputError: there is no champion yet, or it does not know the segment.
    """
    champion = published_champion(lake, mlflow)
    if champion is None:
        raise InputError(
            [Problem(f"fleet {mlflow.experiment}", "has no champion yet", "run the weekly cycle: fleet run")]
        )
    row = _row_of(champion, segment)
    training = trainings(lake).get(row[TRAINING])
    return {
        "segment": segment,
        "champion": champion.version,
        "served_by": row["chosen"],
        "weights": shares_of(weights_of(row)),
        "model": _model_of(row, training),
        "training": row[TRAINING] or UNKNOWN,
        **_facts(mlflow, row[TRAINING], training),
        "registered_run": champion.tags.get("run_id") or UNKNOWN,
    }


def champion_lineage(lake: Lake, mlflow: Mlflow, champion: Champion) -> pd.DataFrame:
    """A row for each training that still serves some segment of a champion: how many, and what it was made from."""
    known = trainings(lake)
    counted = {row["values"]: row["counts"] for row in pc.value_counts(champion.listing[TRAINING]).to_pylist()}
    rows = [
        {"training": identity or UNKNOWN, "segments": segments, **_facts(mlflow, identity, known.get(identity))}
        for identity, segments in counted.items()
    ]
    return pd.DataFrame(rows).sort_values("segments", ascending=False, ignore_index=True)


def _facts(mlflow: Mlflow, identity: str | None, training: Training | None) -> dict[str, Any]:
    record = training.record if training else {}
    run = mlflow.run_tagged("training", identity) if identity else None
    return {**{fact: record.get(key, UNKNOWN) for fact, key in RECORDED.items()}, "training_run": run or UNKNOWN}


def _row_of(champion: Champion, segment: str) -> dict[str, Any]:
    listing = champion.listing.select(["segment", "chosen", *WEIGHTS, TRAINING, "shard"])
    found = listing.filter(pc.equal(listing["segment"], segment)).to_pylist()
    if found:
        return found[0]
    remedy = nearest_segments(segment, listing["segment"].to_pylist())
    raise InputError([Problem(segment, f"is no segment of champion {champion.version}", remedy)])


def _model_of(row: dict[str, Any], training: Training | None) -> str | None:
    files = {SEGMENT_MODEL: row["shard"], FLEET_MODEL: training.fleet_file if training else None}
    return " + ".join(file for name in weights_of(row) if (file := files.get(name))) or None

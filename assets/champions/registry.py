"""Publishing a champion: its table, its registered version, and last the alias that makes both visible."""

from __future__ import annotations

import uuid
from typing import Any

import pyarrow as pa

from assets.champions.gate import Decision, promoted_listing
from assets.evaluation.incumbent import CHAMPIONS, Champion
from assets.evaluation.judge import Evaluation
from assets.models.store import UNKNOWN
from resources.files import write_parquet
from resources.lake import Lake
from resources.mlflow import CHAMPION, Mlflow

PUBLISHED = "published"


def publish_champion(
    lake: Lake, mlflow: Mlflow, evaluation: Evaluation, decision: Decision, incumbent: Champion | None = None
) -> Champion:
    """Commits the challenger of an evaluation as a version and moves the alias to it, in this order.

    Whatever dies on the way leaves the old champion in place: the alias moves last.
    """
    published = uuid.uuid4().hex
    rows = promoted_listing(evaluation.rows(lake), incumbent.listing if incumbent else None, decision)
    _commit_rows(lake, rows, published, evaluation.record)
    tags = {
        "published": published,
        "evaluation": evaluation.digest,
        "training": evaluation.record["training"],
        "raw_digest": evaluation.record["raw_digest"],
        "recipe_digest": evaluation.record["recipe_digest"],
        "configuration_digest": evaluation.record.get("configuration_digest", UNKNOWN),
        "trained_through": evaluation.record["last_label"] or "",
        "dagster_run_id": mlflow.run().dagster_run_id,
    }
    version = _register(mlflow, evaluation.record, decision, tags)
    client = mlflow.client()
    client.set_registered_model_alias(mlflow.experiment, CHAMPION, version)
    return Champion(int(version), {**tags, "version": version, "run_id": mlflow.run_id()}, rows)


def _commit_rows(lake: Lake, rows: pa.Table, published: str, record: dict[str, Any]) -> None:
    table = lake.table(CHAMPIONS)
    with table.staging() as staging:
        write_parquet(rows, f"{staging.uri}/{PUBLISHED}={published}/champions.parquet")
        schema = rows.schema.append(pa.field(PUBLISHED, pa.string()))
        table.commit(staging, schema, {"published": published, **record}, mode="append", partition_by=[PUBLISHED])


def _register(mlflow: Mlflow, record: dict[str, Any], decision: Decision, tags: dict[str, str]) -> str:
    from mlflow.exceptions import MlflowException

    client, run = mlflow.client(), mlflow.run()
    run_id = run.active_run().info.run_id
    run.log_dict({"tags": tags, "evaluation": record, "reasons": decision.reasons}, "champion/champion.json")
    try:
        client.create_registered_model(mlflow.experiment, description="Champion fleets, one version a promotion")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{run.active_run().info.artifact_uri}/champion"
    description = "; ".join(decision.reasons)
    created = client.create_model_version(mlflow.experiment, source, run_id, tags=tags, description=description)
    return str(created.version)

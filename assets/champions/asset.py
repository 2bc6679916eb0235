"""`champions`: the fleet that serves, published as one version when the gate lets it through."""

from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.compute as pc
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    asset,
)

from assets.champions.gate import Decision
from assets.champions.lineage import champion_lineage
from assets.champions.refit import candidacy
from assets.champions.registry import publish_champion
from assets.code_version import code_version
from assets.evaluation.incumbent import CHAMPIONS, Champion, published_champion
from assets.evaluation.judge import EVALUATION, Evaluation, latest_evaluation
from assets.evaluation.report import segment_errors, totals_plot, worst_segments
from assets.presentation import BLUE, GREEN, ORANGE, column_schema, mistakes_explained, new_figure, plot, table
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.settings import Settings
from resources.spark import Spark

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CODE_VERSION = code_version("assets.champions.gate", "assets.champions.clearly", "assets.champions.registry")
PROMOTED, REFUSED, UNCHANGED = "promoted", "refused", "unchanged"


def champions_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/champions` of a fleet."""

    @asset(
        name=CHAMPIONS,
        key_prefix=settings.name,
        deps=[AssetKey([settings.name, EVALUATION])],
        description="The fleet that serves: a row a segment, one registered version, the MLflow alias `champion`.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"mlflow", "deltalake"},
        tags={"stage": "promotion"},
        code_version=CODE_VERSION,
        pool=f"{settings.name}_promotion",
    )
    def champions(context: AssetExecutionContext, lake: Lake, spark: Spark, mlflow: Mlflow) -> MaterializeResult:
        judged = latest_evaluation(lake)
        assert judged is not None, "evaluation comes first"
        serving = published_champion(lake, mlflow)
        with mistakes_explained():
            found = candidacy(lake, spark, settings, judged, serving, context.log.info)
        judged, decision = found.evaluation, found.decision
        outcome = PROMOTED if decision.promote else REFUSED
        if serving is not None and serving.tags.get("evaluation") == judged.digest:
            outcome = UNCHANGED
        elif decision.promote:
            serving = publish_champion(lake, mlflow, judged, decision, serving)
        serves = f"version {serving.version} serves" if serving else "the baseline serves"
        context.log.info(f"champions: {outcome}, {serves}; {'; '.join(decision.reasons)}")
        metadata = _metadata(lake, mlflow, judged, decision, outcome, serving)
        version = serving.tags["published"] if serving else "none"
        return MaterializeResult(metadata=metadata, data_version=DataVersion(version))

    return champions


def _metadata(
    lake: Lake, mlflow: Mlflow, judged: Evaluation, decision: Decision, outcome: str, serving: Champion | None
) -> dict[str, Any]:
    rows = judged.rows(lake)
    metadata: dict[str, Any] = {
        "outcome": outcome,
        "reasons": MetadataValue.md("\n".join(f"- {reason}" for reason in decision.reasons)),
        "total error": plot(totals_plot(judged.record)),
        "worst segments": table(worst_segments(segment_errors(rows))),
    }
    if serving is None:
        return {**metadata, "version": "none: the baseline serves", "dagster/row_count": 0, "segments": 0}
    return {
        **metadata,
        "version": serving.version,
        "dagster/row_count": len(serving.listing),
        "segments": len(serving.listing),
        "served by": MetadataValue.json(
            {row["values"]: row["counts"] for row in pc.value_counts(serving.listing["chosen"]).to_pylist()}
        ),
        "trained through": serving.tags["trained_through"],
        "snapshot": serving.tags["raw_digest"],
        "training": serving.tags["training"],
        "lineage": table(champion_lineage(lake, mlflow, serving)),
        "who serves": plot(_serving_plot(serving)),
        "dagster/column_schema": column_schema(serving.listing.schema),
        "dagster/uri": MetadataValue.path(lake.table(CHAMPIONS).uri),
    }


def _serving_plot(serving: Champion) -> "Figure":
    figure, axes = new_figure(f"Who serves in version {serving.version}", 6.2, 2.2)
    frame: pd.DataFrame = serving.listing.select(["chosen", "status"]).to_pandas()
    groups = {
        "its own model": int((frame["chosen"] == "segment").sum()),
        "the fleet-wide model": int((frame["chosen"] == "fleet").sum()),
        "the baseline": int((frame["chosen"] == "baseline").sum()),
    }
    axes.barh(list(groups)[::-1], list(groups.values())[::-1], color=[ORANGE, GREEN, BLUE])
    return figure

"""`champions`: the fleet that serves, published as one version when the gate lets it through, or a person decides."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import date
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow.compute as pc
from dagster import (
    AssetExecutionContext,
    AssetKey,
    AssetsDefinition,
    Config,
    DagsterRunStatus,
    DataVersion,
    MaterializeResult,
    MetadataValue,
    RetryRequested,
    asset,
)
from pydantic import Field

from assets.champions.history import evaluation_behind, versions_table
from assets.champions.lineage import champion_lineage
from assets.champions.listing import outcomes_of
from assets.champions.promotion import UNCHANGED, Outcome, promote
from assets.champions.refit import candidacy
from assets.champions.registry import Word
from assets.champions.report import REPORT, WORST, changes_plot, kept_segments, report_page, segment_changes
from assets.champions.word import Action, Intent, Request, carried_out, intended
from assets.code_version import code_version
from assets.evaluation.incumbent import CHAMPIONS, Champion, published_champion
from assets.evaluation.judge import EVALUATION, latest_evaluation
from assets.evaluation.live_comparison import live_comparison
from assets.evaluation.live_errors import LIVE_ERRORS
from assets.evaluation.live_summary import metric_of_live
from assets.evaluation.report import SERVES, SERVES_SAID, totals_plot
from assets.presentation import column_schema, mistakes_explained, new_figure, plot, png, table
from resources.lake import Lake
from resources.mlflow import Mlflow
from resources.problems import InputError, Problem
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RETRIES, RETRY_SECONDS = 3, 5.0
WORD_TAG = "fleet/word"  # what a person asked for, and what a run has done of it
ENDED_EARLY = (DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
CODE_VERSION = code_version("assets.champions.gate", "assets.champions.clearly", "assets.champions.registry")


class ChampionsConfig(Config):
    """What a run of `champions` does; by default the gate decides on the last evaluation."""

    action: Action = Field(Action.GATE, description="The gate's word, or a person's.")
    version: int | None = Field(
        None, description="To approve or reject: by default the one that waits. To roll back to: the one before."
    )
    segments: list[str] = Field([], description="Roll back (or unpin) just these; by default the whole fleet.")
    pin_until: str | None = Field(None, description="Keep segments that are rolled back until this day, 2030-01-31.")
    by: str = Field("", description="Who decides; everything but the gate needs a name.")
    note: str = Field("", description="Why.")


def champions_asset(settings: Settings) -> AssetsDefinition:
    """The asset `<name>/champions` of a fleet."""

    @asset(
        name=CHAMPIONS,
        key_prefix=settings.name,
        # live errors come first: a challenger's shadow is judged by them
        deps=[AssetKey([settings.name, name]) for name in (EVALUATION, *([LIVE_ERRORS] if settings.time else []))],
        description="The fleet that serves: a row a segment, one registered version, the MLflow alias `champion`.",
        group_name=settings.name,
        owners=[settings.owner],
        kinds={"mlflow", "deltalake"},
        tags={"stage": "promotion"},
        code_version=CODE_VERSION,
        pool=f"{settings.name}_promotion",
    )
    def champions(
        context: AssetExecutionContext, config: ChampionsConfig, lake: Lake, spark: Spark, mlflow: Mlflow
    ) -> MaterializeResult:
        with mistakes_explained(), _registry_asked_again(context):
            if config.action is Action.GATE:
                outcome = _gates_word(settings, lake, spark, mlflow, context.log.info)
            else:
                outcome = _persons_word(context, config, lake, mlflow)
        serving = outcome.serving
        serves = f"version {serving.version} serves" if serving else "the baseline serves"
        context.log.info(f"champions: {outcome.what}, {serves}; {'; '.join(outcome.reasons)}")
        by = "" if config.action is Action.GATE else config.by
        metadata = _metadata(lake, mlflow, settings, outcome, {"by": by, "run_id": context.run_id})
        if by:
            metadata |= {"by": by, "note": config.note}
        version = serving.tags["published"] if serving else "none"
        return MaterializeResult(metadata=metadata, data_version=DataVersion(version))

    return champions


@contextmanager
def _registry_asked_again(context: AssetExecutionContext) -> Iterator[None]:
    """Tries the step again when the registry does not answer: until the alias has moved, nothing is half done."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        raise RetryRequested(RETRIES, seconds_to_wait=RETRY_SECONDS * 2**context.retry_number) from error


def _gates_word(settings: Settings, lake: Lake, spark: Spark, mlflow: Mlflow, say: Say) -> Outcome:
    judged = latest_evaluation(lake)
    assert judged is not None, "evaluation comes first"
    found = candidacy(lake, spark, settings, judged, published_champion(lake, mlflow), say)
    report = lake.path("reports/evaluation.html")
    return promote(lake, mlflow, settings.promotion, found.evaluation, found.decision, report)


def _persons_word(context: AssetExecutionContext, config: ChampionsConfig, lake: Lake, mlflow: Mlflow) -> Outcome:
    word, until = Word(config.by, config.note), _day(config.pin_until)
    request = Request(config.action, config.version, tuple(config.segments), until, word)
    begun = _begun(context, request.digest)
    intent = Intent(str(begun["version"]), str(begun["before"])) if begun else intended(mlflow, request)
    said = begun["said"] if begun else None
    if said is None:
        # before anything is done: whoever goes on with this run wants it done once, and to the same version
        _note(context, request, intent, None)
        said = carried_out(lake, mlflow, request, intent, resumed=begun is not None)
    _note(context, request, intent, said)
    what, _, which = said.partition(": ")
    reason = f"{which}, by {word.by}" + (f": {word.note}" if word.note else "")
    serving = published_champion(lake, mlflow)
    if serving is None:
        return Outcome(what, (reason,), None)
    return Outcome(what, (reason,), serving, serving.listing, evaluation_behind(lake, serving))


def _note(context: AssetExecutionContext, request: Request, intent: Intent, said: str | None) -> None:
    note = {"run": context.run_id, "request": request.digest, **asdict(intent), "said": said}
    context.instance.add_run_tags(context.run_id, {WORD_TAG: json.dumps(note)})


def _begun(context: AssetExecutionContext, request: str) -> dict[str, str | None] | None:
    """What this run, or the failed ones that it re-executes, noted of the same request; None where it is a new one."""
    run = context.instance.get_run_by_id(context.run_id)
    while run is not None:
        # tags are copied to re-executions by the UI: only what a run noted itself counts
        note = json.loads(run.tags.get(WORD_TAG, "null"))
        if note and (note["run"], note["request"]) == (run.run_id, request):
            return dict(note)
        run = context.instance.get_run_by_id(run.parent_run_id) if run.parent_run_id else None
        if run is None or run.status not in ENDED_EARLY:
            return None
    return None


def _day(text: str | None) -> date | None:
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InputError([Problem("pin_until", f"{text!r} is no day", "write it as 2030-01-31")]) from None


def _metadata(lake: Lake, mlflow: Mlflow, settings: Settings, outcome: Outcome, said: dict[str, str]) -> dict[str, Any]:
    history, serving = versions_table(mlflow), outcome.serving
    metadata: dict[str, Any] = {
        "outcome": outcome.what,
        "reasons": MetadataValue.md("\n".join(f"- {reason}" for reason in outcome.reasons)),
        "versions": table(history),
    }
    figures = {} if outcome.record is None else {"total error": totals_plot(outcome.record)}
    changes = None if outcome.listing is None else segment_changes(outcome.listing)
    if outcome.listing is not None and changes is not None:
        if changes["before"].notna().any():
            figures["error before and after"] = changes_plot(changes)
        metadata |= {
            "segments, by outcome": MetadataValue.json(outcomes_of(outcome.listing)),
            "segments that lose most": table(changes.head(WORST)),
            "segments not promoted": table(kept_segments(outcome.listing)),
        }
    shadow, intervals = live_comparison(lake, metric_of_live(settings.evaluation.metric))
    if len(shadow):
        metadata["challenger against champion"] = table(shadow)
        figures["challenger against champion, live"] = intervals
    metadata |= {title: plot(figure) for title, figure in figures.items()}
    version = f"version {serving.version}" if serving else "the baseline"
    facts = {**said, "outcome": outcome.what, "reasons": outcome.reasons, "version": version}
    drawn = [png(figure) for figure in figures.values()]
    page = report_page(settings.name, facts, outcome.listing, changes, outcome.record, shadow, history, drawn)
    metadata["report"] = MetadataValue.path(lake.write_file(REPORT, page.encode()))
    if outcome.what != UNCHANGED and not said["by"]:
        mlflow.run().log_text(page, "champions.html")
    if serving is None:
        return {**metadata, "version": "none: the baseline serves", "dagster/row_count": 0, "segments": 0}
    return {**metadata, **_of_champion(lake, mlflow, serving)}


def _of_champion(lake: Lake, mlflow: Mlflow, serving: Champion) -> Mapping[str, Any]:
    return {
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
    groups = {said: int((frame["chosen"] == name).sum()) for name, said in SERVES_SAID.items()}
    axes.barh(list(groups)[::-1], list(groups.values())[::-1], color=[SERVES[name] for name in SERVES][::-1])
    return figure

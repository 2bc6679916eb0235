"""From the champion and the features to the committed forecasts."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import code_version, version_of
from assets.evaluation.incumbent import Champion, answers
from assets.evaluation.issues import FORECASTS, SHADOW_FORECASTS
from assets.evaluation.judge import candidate
from assets.features.point_in_time import ASSUMED
from assets.features.publish import FEATURES, FeatureSet, current_recipe, mean_label, open_segments
from assets.features.rebuild import committed_files
from assets.forecasts.score import MODELS, WRITTEN, Rival, Said, ScoreTask, forecast_table, score_bucket
from assets.models.predictions import Candidate
from assets.models.store import trainings
from assets.raw.parse import TIME
from assets.raw.recipe import Recipe
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say, spread

CODE_VERSION = code_version(
    "assets.forecasts.score", "assets.forecasts.sample", "assets.models.predictions", "assets.models.blend",
    "assets.models.baseline",
    "assets.models.intermittent", "assets.models.quantiles",
)  # fmt: skip


@dataclass(frozen=True)
class Forecasts:
    """Committed forecasts and what is said of them; new if they, or what was forecast beside them, are."""

    version: int
    record: dict[str, Any]
    is_new: bool


@dataclass(frozen=True)
class _Digests:
    """What forecasts are made from, and those beside them (None: there are none)."""

    forecasts: str
    shadow: str | None


def publish_forecasts(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    champion: Champion | None,
    say: Say | None = None,
    challenger: Champion | None = None,
) -> Forecasts:
    """Commits `horizon` forecasts for every open segment; nothing if these very ones are there already.

    Without a champion, or where it has no model of a segment, the baseline serves. While a challenger waits, it
    forecasts the shadow sample into a table of its own, and it is served for the split sample.
    """
    table, beside = lake.table(FORECASTS), lake.table(SHADOW_FORECASTS)
    # the season shapes no feature, so that the features' own recipe may hold yesterday's
    season = current_recipe(lake, spark, settings).season
    waiting = _waiting(lake, settings, features, champion, challenger)
    digests = _digests(settings, features, champion, waiting, season)
    is_new = table.record().get("digest") != digests.forecasts
    shadow_is_new = waiting is not None and beside.record().get("digest") != digests.shadow
    if not (is_new or shadow_is_new):
        return Forecasts(table.version() or 0, table.record(), False)
    with table.staging() as staging, beside.staging() as aside:
        folder, aside_folder = staging.uri if is_new else None, aside.uri if shadow_is_new else None
        written = _write(lake, spark, settings, features, champion, waiting, season, folder, aside_folder, say)
        names, schema = sorted(written["file"].to_pylist()), _schema(lake, settings, features)
        if waiting is not None and shadow_is_new:
            # first, so that forecasts that are there have theirs beside them
            sampled = sorted(written.filter(pc.greater(written["sampled"], 0))["file"].to_pylist())
            said = _shadow_record(digests, settings, features, champion, waiting, written)
            beside.commit(aside, schema, said, files=sampled)
        if not is_new:
            return Forecasts(table.version() or 0, table.record(), True)
        record = _record(digests.forecasts, features, champion, waiting, written)
        committed = table.commit(staging, schema, record, files=names)
    return Forecasts(committed, record, True)


def _waiting(
    lake: Lake, settings: Settings, features: FeatureSet, champion: Champion | None, challenger: Champion | None
) -> Champion | None:
    """The challenger, if it is to forecast anything: of this question, and not the champion by now."""
    if challenger is None or not max(settings.promotion.shadow, settings.promotion.split):
        return None
    is_champion = champion is not None and champion.version == challenger.version
    return None if is_champion or not answers(lake, challenger, features.recipe) else challenger


def _digests(
    settings: Settings, features: FeatureSet, champion: Champion | None, waiting: Champion | None, season: int
) -> _Digests:
    published, levels = champion.tags["published"] if champion else None, levels_asked(settings, features.recipe)
    digest = version_of(features.digest, published, season, *levels, CODE_VERSION)
    if waiting is None:
        return _Digests(digest, None)
    promotion, theirs = settings.promotion, waiting.tags["published"]
    if promotion.split:  # a shadow alone changes nothing in the forecasts
        digest = version_of(digest, theirs, promotion.split)
    return _Digests(digest, version_of(digest, theirs, promotion.shadow, promotion.split))


def levels_asked(settings: Settings, recipe: Recipe) -> list[float]:
    """Levels of the quantiles beside a forecast; a probability has none."""
    return [] if recipe.model["objective"] == "binary" else settings.forecasts.quantiles


def _write(
    lake: Lake,
    spark: Spark,
    settings: Settings,
    features: FeatureSet,
    champion: Champion | None,
    waiting: Champion | None,
    season: int,
    folder: str | None,
    aside: str | None,
    say: Say | None,
) -> pa.Table:
    """What workers say of the files that they wrote; see `WRITTEN`."""
    recipe, promotion = features.recipe.model_copy(update={"season": season}), settings.promotion
    with ExitStack() as stack:
        ours, theirs = (
            stack.enter_context(_fleet(lake, spark, settings, features, fleet)) if fleet else None
            for fleet in (champion, waiting)
        )
        rival = None
        if waiting and theirs:
            sampled = max(promotion.shadow, promotion.split)
            rival = Rival(theirs, waiting.version, sampled, promotion.split, aside)
        work = partial(
            score_bucket,
            recipe=recipe,
            last=features.profile.last_period,
            otherwise=mean_label(lake, features),
            champion=ours,
            version=champion.version if champion else None,
            time_type=features.profile.times.time_type,
            levels=levels_asked(settings, recipe),
            folder=folder,
            rival=rival,
        )
        tasks = [ScoreTask(bucket, own) for bucket, own in committed_files(lake, features).items()]
        total = open_segments(lake, features)
        return spread(spark, tasks, work, WRITTEN, short=True, what="forecast", total=total, say=say)


def _fleet(
    lake: Lake, spark: Spark, settings: Settings, features: FeatureSet, fleet: Champion
) -> AbstractContextManager[Candidate]:
    newest = trainings(lake).get(fleet.tags["training"])
    return candidate(lake, spark, settings, features, fleet.listing, newest)


def _record(
    digest: str, features: FeatureSet, champion: Champion | None, waiting: Champion | None, written: pa.Table
) -> dict[str, Any]:
    counted = _counted(written)
    split = counted["split"] // features.recipe.horizon
    served = [each for each in (champion, waiting if split else None) if each]
    return {
        "digest": digest,
        "rows": counted["rows"],
        "segments": counted["segments"],
        "assumed": counted["assumed"],
        "by_model": {name: counted[f"by_{name}"] for name in MODELS},
        **_span(features),
        "version": champion.version if champion else None,
        "split": {"version": waiting.version, "segments": split} if waiting and split else None,
        "evaluations": {str(each.version): each.tags.get("evaluation") for each in served},
        "features_version": features.version,
    }


def _shadow_record(
    digests: _Digests,
    settings: Settings,
    features: FeatureSet,
    champion: Champion | None,
    waiting: Champion,
    written: pa.Table,
) -> dict[str, Any]:
    rows = _counted(written)["sampled"]
    return {
        "digest": digests.shadow,
        "issue": digests.forecasts,
        "challenger": waiting.version,
        "champion": champion.version if champion else None,
        "shadow": settings.promotion.shadow,
        "split": settings.promotion.split,
        "rows": rows,
        "segments": rows // features.recipe.horizon,
        **_span(features),
        "last_label": features.profile.times.last_label.isoformat(),
        "features_version": features.version,
    }


def _counted(written: pa.Table) -> dict[str, int]:
    return {name: pc.sum(written[name]).as_py() or 0 for name in WRITTEN.names if name != "file"}


def _span(features: FeatureSet) -> dict[str, str]:
    ahead = features.profile.times.ahead(features.recipe.horizon)
    return {"start": ahead[0].isoformat(), "end": ahead[-1].isoformat()}


def _schema(lake: Lake, settings: Settings, features: FeatureSet) -> pa.Schema:
    """The forecasts' schema, told from the features' own, so that it holds when no segment is open."""
    from pyarrow.parquet import read_schema

    from resources.files import filesystem

    recipe = features.recipe
    system, path = filesystem(lake.table(FEATURES).files(features.version)[0])
    with system.open_input_file(path) as file:
        schema = read_schema(file)
    wanted = pa.schema([schema.field(name) for name in (*recipe.segment, TIME, ASSUMED)])
    levels, time_type = levels_asked(settings, recipe), features.profile.times.time_type
    return forecast_table(wanted.empty_table(), Said.nothing(len(levels)), recipe, time_type, levels).schema

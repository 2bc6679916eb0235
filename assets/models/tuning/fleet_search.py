"""A search for the whole fleet: its budget, a search of each class of segments, and the record that is kept of it."""

from __future__ import annotations

import time
from typing import Any

import pyarrow.compute as pc

from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from assets.models.segment import FITS
from assets.models.tuning.sample import (
    CLASSES,
    MOST,
    OVERSAMPLED,
    SAMPLED,
    SizeClass,
    allotted,
    candidates,
    extent,
    in_order,
)
from assets.models.tuning.search import Bench, ClassSearch
from assets.models.tuning.space import Space
from assets.models.tuning.trial import FOLDS, SearchPlan
from assets.raw.recipe import Recipe
from assets.raw.tuned import keep_choice, kept_choice, question, untuned
from resources.lake import Lake
from resources.settings import Settings
from resources.spark import Spark
from resources.spread import Say


def is_due(lake: Lake, features: FeatureSet, recipe: Recipe, settings: Settings) -> bool:
    """Whether a weekly cycle is to search: it never did for this question, and the budget buys a search."""
    if not (settings.tuning.enabled and settings.tuning.first_run) or why_not_searched(features, settings):
        return False
    return kept_choice(lake).get("question") != question(recipe, settings)


def search(
    lake: Lake, spark: Spark, features: FeatureSet, recipe: Recipe, settings: Settings, say: Say
) -> dict[str, Any]:
    """Searches parameters for the fleet, and keeps in the lake what was chosen; gives the record.

    The record has `question`, `allowed` and `spent` (fits), `seconds`, `classes`, the entries `chosen`, and `why`
    where nothing was searched; that is not kept. Nothing in it but the seconds depends on when or where it was made.
    """
    started, recipe = time.perf_counter(), untuned(recipe)
    record: dict[str, Any] = {
        "question": question(recipe, settings),
        "metric": recipe.metric,
        "features_digest": features.digest,
        "allowed": _allowed(features, settings),
        "spent": 0,
        "classes": [],
        "chosen": [],
        "why": why_not_searched(features, settings),
    }
    if not record["why"]:
        record |= _searched(lake, spark, features, recipe, settings, say, record["allowed"])
    record["seconds"] = round(time.perf_counter() - started, 1)
    if record["classes"]:
        keep_choice(lake, record)
    return record


def _searched(
    lake: Lake, spark: Spark, features: FeatureSet, recipe: Recipe, settings: Settings, say: Say, allowed: int
) -> dict[str, Any]:
    plan = SearchPlan(recipe, features.profile.last_period - recipe.holdout, settings.failures.time_limit)
    whole = extent(allowed, FOLDS, features.record["segments"])
    wanted = OVERSAMPLED * SAMPLED * (whole.segments if whole else MOST)
    known = candidates(lake, spark, features, plan, wanted)
    space = Space.of(settings, recipe, negative=_mostly(known["negative"]))
    counts = {each: sum(map(each.of, known["rows"].to_pylist())) for each in CLASSES}
    searches = allotted(allowed, FOLDS, counts)
    if not searches or not space.defaults:
        why = "no class of segments is large enough" if space.defaults else "fleet.yaml decides all that is searched"
        return {"why": why}
    files, classes, spent = committed_files(lake, features), [], 0
    for size_class, (fits, size) in searches.items():
        mine = known.filter(_of_class(known["rows"], size_class))
        bench = Bench(spark, plan, files, fits)
        said = _prefixed(say, f"search, {size_class.name}: ")
        seed, margin = recipe.model["seed"], settings.promotion.margin
        found = ClassSearch(bench, space, in_order(mine), size, seed, margin).run(said)
        said(f"{found['why']}; {found['share']:.1%} of their loss on segments that no trial had seen")
        facts = {"class": size_class.name, "from": size_class.least, "below": size_class.below}
        classes.append({**facts, "segments": len(mine), "sampled": SAMPLED * size.segments, **found})
        classes[-1] |= {"allowed": fits, "spent": bench.spent}
        spent += bench.spent
    chosen = [{**each["entry"], "from": each["from"], "below": each["below"]} for each in classes if each["entry"]]
    return {"classes": classes, "chosen": chosen, "spent": spent}


def _mostly(negative: Any) -> bool:
    """Whether most segments have labels below zero: of the others a loss of counts can be fitted."""
    return len(negative) > 0 and sum(negative.to_pylist()) > len(negative) / 2


def _of_class(rows: Any, of: SizeClass) -> Any:
    return pc.and_(pc.greater_equal(rows, of.least), pc.less(rows, (1 << 62) if of.below is None else of.below))


def _prefixed(say: Say, prefix: str) -> Say:
    return lambda said: say(f"{prefix}{said}")


def _allowed(features: FeatureSet, settings: Settings) -> int:
    """Fits that a search may cost: a share of those of a training of all segments."""
    return int(settings.tuning.budget * FITS * features.record["segments"])


def why_not_searched(features: FeatureSet, settings: Settings) -> str | None:
    """Why nothing can be searched: too few segments, or too small a budget."""
    allowed, segments = _allowed(features, settings), features.record["segments"]
    if extent(allowed, FOLDS, segments):
        return None
    share = f"tuning.budget ({settings.tuning.budget:.0%})"
    return f"{segments:,} segments and {allowed:,} fits, by {share}, are too few to tell parameters apart"

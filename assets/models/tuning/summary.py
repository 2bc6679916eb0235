"""A search as people look at it: what was chosen, each trial, the curve; and what of it goes to MLflow."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pandas as pd

from assets.features.publish import FeatureSet
from assets.models.tuning.fleet_search import why_not_searched
from assets.presentation import BLUE, GREEN, GREY, ORANGE, new_figure
from assets.raw.recipe import Recipe
from assets.raw.tuned import kept_choice, question
from resources.lake import Lake
from resources.settings import Settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from resources.mlflow import Mlflow

SHOWN = 20


def search_said(record: dict[str, Any]) -> str:
    """What came of a search, in a sentence."""
    if record["why"]:
        return f"nothing was searched: {record['why']}"
    parts = [f"{each['class']}: {each['why']} ({each['share']:.1%} of their loss)" for each in record["classes"]]
    return f"{'; '.join(parts)}; {record['spent']:,} of {record['allowed']:,} fits, {record['seconds']:.0f} s"


def parameters_in_use(lake: Lake, features: FeatureSet, recipe: Recipe, settings: Settings) -> str:
    """What segments' models are fitted with, in a sentence, and why where it is the defaults."""
    if not settings.tuning.enabled:
        return "defaults: tuning.enabled is false"
    record = kept_choice(lake)
    if record.get("question") == question(recipe, settings):
        chosen = {each["class"]: parameters_said(each["entry"]) for each in record["classes"]}
        return "; ".join(f"{name}: {said}" for name, said in chosen.items())
    return f"defaults: {why_not_searched(features, settings) or 'nothing was searched yet (fleet tune)'}"


def class_table(record: dict[str, Any]) -> pd.DataFrame:
    """A row a class: what was tried and chosen, its loss as a share of the defaults' on segments no trial had seen."""
    return pd.DataFrame([
        {
            "segments of": each["class"],
            "sampled": each["sampled"],
            "trials": len(each["trials"]),
            "fits": each["spent"],
            "best": parameters_said(each.get("confirmed")),
            "loss, share of the defaults'": each["share"],
            "standard error": each.get("standard_error"),
            "adopted": each["entry"] is not None,
        }
        for each in record["classes"]
    ])  # fmt: skip


def trial_table(record: dict[str, Any]) -> pd.DataFrame:
    """The trials of all classes that lost least, those that went through all rungs first."""
    rows = [
        {"segments of": each["class"], "trial": trial["trial"], "loss, share of the defaults'": trial["share"],
         "on segments": trial["segments"], "finished": trial["finished"],
         **{name: _rounded(value) for name, value in trial["point"].items()}}
        for each in record["classes"] for trial in each["trials"]
    ]  # fmt: skip
    if not rows:
        return pd.DataFrame()
    best = pd.DataFrame(rows).sort_values(["finished", "loss, share of the defaults'"], ascending=[False, True])
    return best.head(SHOWN)


def parameters_said(entry: dict[str, Any] | None) -> str:
    """An entry of a choice in words; `defaults` where it changes nothing."""
    if entry is None:
        return "defaults"
    factors = {"leaves": "leaves", "rows_a_leaf": "rows a leaf"}
    said = [f"{entry[name]:g} x {word}" for name, word in factors.items() if entry[name] != 1]
    said += [f"{entry['rounds']} rounds"] if entry["rounds"] else []
    said += [str(entry["objective"])] if entry["objective"] else []
    said += [f"without {entry['without']}"] if entry["without"] else []
    return ", ".join([*said, *(f"{name} {value}" for name, value in entry["params"].items())]) or "defaults"


def best_so_far(trials: list[dict[str, Any]]) -> list[float]:
    """After each trial the least loss of those that went through all rungs, as a share of the defaults'."""
    return list(accumulate((each["share"] if each["finished"] else 1.0 for each in trials), min))


def curve_plot(record: dict[str, Any]) -> Figure:
    """Each trial's loss and the best so far against trials, by class."""
    figure, axes = new_figure("Search: loss on the folds, as a share of the defaults'")
    for each, colour in zip(record["classes"], (BLUE, ORANGE, GREEN), strict=False):
        trials = [trial for trial in each["trials"] if trial["share"] is not None]
        axes.scatter(
            [t["trial"] for t in trials], [min(t["share"], 2.0) for t in trials], s=12, color=colour, alpha=0.5
        )
        best = best_so_far(each["trials"])
        axes.step(range(len(best)), best, where="post", color=colour, lw=1.4, label=each["class"])
    axes.axhline(1, color=GREY, lw=0.8)
    axes.set_xlabel("trials (points: on as many segments as they got to; line: the best so far on all)")
    if record["classes"]:
        axes.legend(frameon=False, fontsize=8)
    return figure


def log_search(mlflow: Mlflow, record: dict[str, Any]) -> None:
    """What was chosen, each class's figures, and the curve, in the MLflow run of this Dagster run."""
    if not record["classes"]:
        return
    run = mlflow.run()
    for each in record["classes"]:
        name = f"search_from_{each['from']}_rows"
        run.log_params({f"{name}": parameters_said(each["entry"])[:6000]})
        run.log_metrics({f"{name}_share": each["share"], f"{name}_fits": float(each["spent"])})
        for step, share in enumerate(best_so_far(each["trials"])):
            run.log_metric(f"{name}_best", share, step=step)
    run.log_metrics({"search_fits": float(record["spent"]), "search_fits_allowed": float(record["allowed"])})
    run.log_dict(record, "search.json")


def _rounded(value: Any) -> Any:
    return float(f"{value:.3g}") if isinstance(value, float) else value

"""The gate: whether a challenger fleet replaces the one that serves, and in which segments."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.champions.clearly import Improvement, chances_of_worse, discoveries, fleet_improvement
from assets.evaluation.pooled import Losses, Pooled
from resources.judging import Promotion

FIRST, SAME, CHANGED = "first fleet", "same recipe", "changed recipe"
KEPT = pa.schema([("segment", pa.string()), ("why", pa.string())])
CLEARLY_WORSE = "its challenger is clearly worse"
NOT_CLEARLY_BETTER = "another recipe, not clearly better"
NO_CLEAN_ROW = "another recipe, without a clean row to show that it is better"
NO_NUMBER = "an error is no number"
# by simulation (docs/promotion.md): origins are not quite independent, segments that share a period's shocks less so
ORIGINS_CAUTION, SEGMENTS_CAUTION = 2, 5
BY_TODAYS_CODE = "the code changed, not the recipe: this is the incumbent's recipe by today's code"


@dataclass(frozen=True)
class Decision:
    """Promoted or refused, and why; `kept` lists the segments that keep the incumbent all the same.

    `worse`: a fleet rule said so, which somebody should look at. `refit`: the recipe changed and is not clearly better,
    so that the incumbent's is to be refitted on the new data instead.
    """

    promote: bool
    reasons: tuple[str, ...]
    kept: pa.Table = field(default_factory=KEPT.empty_table)
    case: str = FIRST
    worse: bool = False
    refit: bool = False
    improvement: Improvement | None = None
    clean_rows: int = 0
    clean_periods: int = 0


def decide(
    evaluation: dict[str, Any],
    failures_tolerated: float,
    promotion: Promotion | None = None,
    pooled: Pooled | None = None,
) -> Decision:
    """What the rules say of an evaluation (its record) and the clean rows on which challenger and incumbent met.

    The same recipe on newer data is promoted unless a fleet rule says that it is worse; another recipe must be clearly
    better. Judged is what would serve: who was chosen for each segment on the fold before the holdout.
    """
    rules = promotion or Promotion()
    if not evaluation["rows"]:
        return Decision(False, ("the holdout has no labelled row: nothing can be judged",), worse=True)
    worse = fleet_rules(evaluation, failures_tolerated, rules)
    if pooled is None:
        passed = _passed(evaluation)
        return Decision(not worse, tuple(worse) or (passed,), worse=bool(worse))
    if pooled.same_recipe:
        return _same_recipe(evaluation, worse, pooled, rules)
    return _changed_recipe(evaluation, worse, pooled, rules)


def fleet_rules(evaluation: dict[str, Any], failures_tolerated: float, rules: Promotion) -> list[str]:
    """Why a fleet is not fit to serve, whoever serves now; nothing where it is."""
    sums, errors, metric = evaluation["compared"], evaluation["errors"], evaluation["metric"]
    found = []
    if sums.get("baseline") is not None and not sums["served"] <= sums["baseline"]:  # what is no number is worse
        served, baseline = (_shown(errors[name]) for name in ("served", "baseline"))
        found.append(f"{metric} {served} is worse than the baseline's {baseline}")
    worse = evaluation.get("worse_than_baseline") or {"segments": 0, "of": 0}
    if worse["segments"] > rules.worse_than_baseline * worse["of"]:
        most = f"more than {rules.worse_than_baseline:.0%} (promotion.worse_than_baseline)"
        found.append(f"{worse['segments']:,} of {worse['of']:,} segments are worse than the baseline, {most}")
    bias = (evaluation.get("bias") or {}).get("served")
    if bias is not None and not abs(bias) <= rules.bias:
        found.append(
            f"the forecasts' sum is off by {bias:+.1%} of the labels', more than {rules.bias:.0%} (promotion.bias)"
        )
    failed, segments = evaluation["failed"] + evaluation.get("undefined", 0), evaluation["segments"]
    if failed > failures_tolerated * segments:
        what = f"{evaluation['failed']:,} of {segments:,} segments failed"
        what += f" and the errors of {evaluation['undefined']:,} are no number" if evaluation.get("undefined") else ""
        found.append(f"{what}, more than {failures_tolerated:.1%} are tolerated")
    return found


def _passed(evaluation: dict[str, Any]) -> str:
    return f"{evaluation['metric']} {_shown(evaluation['errors']['served'])} is not worse than the baseline"


def _same_recipe(evaluation: dict[str, Any], worse: list[str], pooled: Pooled, rules: Promotion) -> Decision:
    """Promoted unless it is worse; a segment keeps its incumbent only where its challenger is clearly worse."""
    gain, code = _gain(pooled.fleet, pooled.segments, rules), () if pooled.same_code else (BY_TODAYS_CODE,)
    latest = _gain(pooled.latest, pooled.latest, rules)
    for which, each, periods in (("", gain, pooled.periods), ("this week's ", latest, pooled.latest_periods)):
        # the fewer the periods, the more of a difference is luck; no bound excuses where there is nothing to tell from
        most = rules.tolerance * max(1.0, pooled.horizon / max(periods, 1)) ** 0.5
        if periods and not each.share >= -most and not each.high >= 0:
            rule = f"more than {most:.1%} (promotion.tolerance)"
            worse.append(f"on {which}{periods:,} clean periods {_gain_said(each)} the incumbent, {rule}")
    if worse:
        return _decision(False, (*worse, *code), pooled, gain, case=SAME, worse=True)
    kept = _kept(pooled, rules, pooled.same)
    if len(kept) >= len(pooled.names) > 0:
        return _decision(False, (*_kept_said(kept), *code), pooled, gain, case=SAME, worse=True, kept=kept)
    met = (
        f"on {pooled.periods:,} clean periods {_gain_said(gain)} the incumbent"
        if pooled.periods
        else _undecided(pooled)
    )
    reasons = (f"the same recipe on newer data; {_passed(evaluation)}; {met}", *code, *_kept_said(kept))
    return _decision(True, reasons, pooled, gain, case=SAME, kept=kept)


def _changed_recipe(evaluation: dict[str, Any], worse: list[str], pooled: Pooled, rules: Promotion) -> Decision:
    """Promoted if the fleet is clearly better; segments whose challenger is clearly worse, or untested, stay.

    To ask of each segment that it be clearly better for itself would change next to none: docs/promotion.md.
    """
    gain, enough = _gain(pooled.fleet, pooled.segments, rules), pooled.origins >= rules.origins
    if not pooled.periods or not pooled.origins:
        since = pooled.first_clean or "the last snapshot"
        reasons = (*worse, f"the recipe changed and no row is clean yet: those after {since} count")
        return _decision(False, reasons, pooled, None, worse=bool(worse), refit=True)
    met = f"{pooled.periods:,} clean periods ({pooled.origins} origins)"
    said = f"the recipe changed; on {met} {_gain_said(gain)} the incumbent"
    lacking = [] if gain.low > 0 else ["its lower bound is not above 0"]
    if not enough and not gain.share >= rules.margin:
        lacking.append(f"with fewer than {rules.origins} origins it takes {rules.margin:.1%} (promotion.margin)")
    if worse or lacking:
        reasons = (*worse, f"{said}: {', '.join(lacking)}" if lacking else said)
        return _decision(False, reasons, pooled, gain, worse=bool(worse), refit=True)
    kept = _kept(pooled, rules, np.ones(len(pooled.names), dtype=bool))
    if len(kept) >= len(pooled.names) > 0:
        return _decision(False, (said, *_kept_said(kept)), pooled, gain, refit=True)
    return _decision(True, (said, _passed(evaluation), *_kept_said(kept)), pooled, gain, kept=kept)


def _gain(fleet: Losses, segments: Losses, rules: Promotion) -> Improvement:
    """The fleet's improvement by origins or, while these are too few to tell luck from skill, by segments."""
    if (fleet.rows.sum(axis=0) > 0).sum() >= rules.origins:
        return fleet_improvement(*_of_fleet(fleet), fleet.root, rules.false_swaps / ORIGINS_CAUTION)
    each = _part(segments, segments.defined)
    by_segment = fleet_improvement(
        each.challenger.sum(axis=1), each.incumbent.sum(axis=1), each.root, rules.false_swaps / SEGMENTS_CAUTION
    )
    whole = fleet_improvement(*_of_fleet(fleet), fleet.root, rules.false_swaps)
    half = (by_segment.high - by_segment.low) / 2
    return Improvement(whole.share, whole.share - half, whole.share + half, by_segment.units)


def _decision(
    promote: bool, reasons: tuple[str, ...], pooled: Pooled, gain: Improvement | None, **rest: Any
) -> Decision:
    told = {"case": CHANGED, "clean_rows": int(pooled.fleet.rows.sum()), "clean_periods": pooled.periods}
    return Decision(promote, reasons, **{**told, "improvement": gain, **rest})


def _kept(pooled: Pooled, rules: Promotion, unless_worse: NDArray[np.bool_]) -> pa.Table:
    """Segments that keep the incumbent, and why: where the challenger is clearly worse, or not clearly better.

    The second is asked of segments that are not `unless_worse`. Nobody changes the recipe of a segment unseen.
    """
    losses, other = pooled.segments, ~unless_worse
    why = np.full(len(pooled.names), "", dtype=object)
    why[np.flatnonzero(unless_worse)[_clearly(_part(losses, unless_worse), rules, worse=True)]] = CLEARLY_WORSE
    why[np.flatnonzero(other)[~_clearly(_part(losses, other), rules, worse=False)]] = NOT_CLEARLY_BETTER
    why[~pooled.same & (losses.rows.sum(axis=1) == 0)] = NO_CLEAN_ROW
    why[~losses.defined] = NO_NUMBER
    left = np.flatnonzero(why != "")
    return pa.table([pooled.names.take(pa.array(left, pa.int64())), pa.array(why[left], pa.string())], schema=KEPT)


def _clearly(losses: Losses, rules: Promotion, *, worse: bool) -> NDArray[np.bool_]:
    new, old = (losses.incumbent, losses.challenger) if worse else (losses.challenger, losses.incumbent)
    return discoveries(chances_of_worse(new, old, losses.rows, rules.origins), rules.false_swaps)


def _part(losses: Losses, which: NDArray[np.bool_]) -> Losses:
    return Losses(losses.rows[which], losses.challenger[which], losses.incumbent[which], losses.root)


def _of_fleet(losses: Losses) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return losses.challenger.sum(axis=0), losses.incumbent.sum(axis=0)


def _kept_said(kept: pa.Table) -> tuple[str, ...]:
    counted = pc.value_counts(kept["why"]).to_pylist()
    return tuple(f"{row['counts']:,} segments keep the incumbent: {row['values']}" for row in counted)


def _gain_said(gain: Improvement) -> str:
    bounds = f" ({gain.low:+.1%} to {gain.high:+.1%})" if np.isfinite(gain.low) else ""
    better = "better" if gain.share >= 0 else "worse"
    return f"the total error is {abs(gain.share):.1%}{bounds} {better} than that of"


def _undecided(pooled: Pooled) -> str:
    return f"no row after {pooled.first_clean or 'its last snapshot'} to compare it with the incumbent on"


def _shown(error: float | None) -> str:
    return "undefined" if error is None else f"{error:.4f}"

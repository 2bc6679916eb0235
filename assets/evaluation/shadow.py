"""What a challenger's week beside the champion says of it: whether that week is over, and whether it did worse."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from assets.evaluation.incumbent import Champion
from assets.evaluation.issues import SHADOW_FORECASTS
from assets.evaluation.live_comparison import compared_pairs, difference, paired_sums
from assets.evaluation.live_errors import pending_issues, scored_issues
from assets.evaluation.live_summary import live_metric
from assets.features.publish import current_features
from resources.lake import Lake

Compared = tuple[int, int]  # versions: challenger and champion
NOBODY_SERVES = "nobody else serves: there is nothing to compare with"
SHADOWED_FOR = pd.Timedelta(days=7)
ENOUGH = 0.5  # share of the due forecasts of both that must have their label


@dataclass(frozen=True)
class ShadowVerdict:
    """Whether a challenger's shadow is over, whether it may be promoted for all that it says, why, and the numbers."""

    ready: bool
    passed: bool
    reasons: tuple[str, ...]
    numbers: dict[str, Any]


def shadow_verdict(
    lake: Lake,
    challenger: Champion,
    champion: Champion | None,
    share: float,
    *,
    metric: str = "wape",
    tolerance: float = 0.0,
) -> ShadowVerdict:
    """Looks at the live errors of a challenger and the champion on the segments that both forecast.

    Ready: labels reach seven days beyond the challenger's first forecasts beside this champion, they are scored, and
    at least half of what is due has its label; or there is nothing to wait for. Passed: ready, and not clearly worse,
    that is, the lower bound of the difference (see `live_comparison.difference`) is not above `tolerance`.
    """
    spared = _nothing_to_wait_for(lake, challenger, champion, share)
    if spared is not None or champion is None:
        return ShadowVerdict(True, True, (spared or NOBODY_SERVES,), {})
    pair = (challenger.version, champion.version)
    waits, numbers = _still_waits(lake, pair)
    if waits is not None:
        return ShadowVerdict(False, False, (waits,), numbers)
    return _compared(lake, pair, metric, tolerance, numbers)


def _nothing_to_wait_for(lake: Lake, challenger: Champion, champion: Champion | None, share: float) -> str | None:
    if share <= 0:
        return "promotion.shadow is 0: no week beside the champion is asked for"
    if champion is None or champion.version == challenger.version:
        return NOBODY_SERVES
    if current_features(lake).profile.timeline is None:
        return "the table has no time: nothing is forecast"
    beside = _beside(lake, (challenger.version, champion.version))
    if beside and not any(record["segments"] for record in beside):
        return "the shadow sample holds no open segment"
    return None


def _still_waits(lake: Lake, pair: Compared) -> tuple[str | None, dict[str, Any]]:
    """What is waited for, None if nothing is, and how far it is."""
    features, beside = current_features(lake), _beside(lake, pair)
    if not beside:
        return f"version {pair[0]} has forecast nothing beside version {pair[1]} yet", {}
    since, now = min(pd.Timestamp(record["last_label"]) for record in beside), features.profile.times.last_label
    numbers = {"since": since.isoformat(), "through": now.isoformat(), **_counted(lake, pair)}
    came, due = numbers["labels"], numbers["labels"] + numbers["missing"]
    if now - since < SHADOWED_FOR:
        return f"labels reach {(now - since).days} days into its shadow, of {SHADOWED_FOR.days}", numbers
    if any(issue.pair == pair for issue in pending_issues(lake, features)):
        return "its forecasts were not scored yet: materialize live_errors", numbers
    if not came or came < ENOUGH * due:
        return f"{came:,} of {due:,} forecasts that are due have a label, at least half must", numbers
    return None, numbers


def _beside(lake: Lake, pair: Compared) -> list[dict[str, Any]]:
    records = lake.table(SHADOW_FORECASTS).records().values()
    return [record for record in records if (record.get("challenger"), record.get("champion")) == pair]


def _compared(lake: Lake, pair: Compared, metric: str, tolerance: float, numbers: dict[str, Any]) -> ShadowVerdict:
    sums = paired_sums(lake, pair, compared_pairs(lake)[pair], metric)
    errors, found = live_metric(metric, sums.totals), difference(sums, metric)
    numbers = numbers | {
        "segments": len(sums.segments),
        "periods": len(sums.periods),
        f"champion {metric}": float(errors.iloc[0]),
        f"challenger {metric}": float(errors.iloc[1]),
        "difference": found.value,
        "lower": found.lower,
        "upper": found.upper,
    }
    passed = not found.lower > tolerance
    said = (
        f"beside version {pair[1]} on {len(sums.segments):,} segments its live {metric} was {found.value:+.2%} "
        f"({found.lower:+.2%} to {found.upper:+.2%}), {'not ' if passed else ''}clearly worse than {tolerance:+.2%}"
    )
    return ShadowVerdict(True, passed, (said,), numbers)


def _counted(lake: Lake, pair: Compared) -> dict[str, Any]:
    totals = [
        total
        for said in scored_issues(lake).values()
        if said.get("pair") == list(pair)
        for total in said["totals"]
        if total["sampled"] and total["version"] == pair[0]
    ]
    return {"labels": sum(t["count"] for t in totals), "missing": sum(t["missing"] for t in totals)}

"""The gate: whether a challenger fleet replaces the one that serves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa


@dataclass(frozen=True)
class Decision:
    """Promoted or refused, and why."""

    promote: bool
    reasons: tuple[str, ...]
    kept: pa.Table | None = None  # segments that keep their incumbent: `segment`, `reason`


def decide(evaluation: dict[str, Any], failures_tolerated: float) -> Decision:
    """Promotes unless the holdout says that the fleet is worse, in total, than the incumbent or the baseline.

    More failed segments than `failures_tolerated` (a share) refuse it as well. Judged is what would serve: who was
    chosen for each segment on the fold before the holdout.
    """
    sums, errors, metric = evaluation["compared"], evaluation["errors"], evaluation["metric"]
    if not evaluation["rows"]:
        return Decision(False, ("the holdout has no labelled row: nothing can be judged",))
    worse = [
        f"{metric} {_shown(errors['served'])} is worse than the {rival}'s {_shown(errors[rival])}"
        for rival in ("incumbent", "baseline")
        if sums.get(rival) is not None and not sums["served"] <= sums[rival]  # so that what is no number is worse
    ]
    failed, segments = evaluation["failed"], evaluation["segments"]
    if failed > failures_tolerated * segments:
        worse.append(f"{failed:,} of {segments:,} segments failed, more than {failures_tolerated:.1%} are tolerated")
    if worse:
        return Decision(False, tuple(worse))
    return Decision(True, (f"{metric} {_shown(errors['served'])} is not worse than incumbent and baseline",))


def _shown(error: float | None) -> str:
    return "undefined" if error is None else f"{error:.4f}"

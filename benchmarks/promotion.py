"""How often the gate lets a recipe in, and which segments it swaps, by simulation: the real gate, made errors.

Made are the errors of two fleets by segment and period: autocorrelated, of very different size, partly shared by all
segments of a period, and alike between the two fleets, as models that look at the same rows are. A recipe's gain is
what share of the incumbent's error it takes away. Run: .venv/bin/python -m benchmarks.promotion --repeat 400
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.champions.gate import Decision, decide
from assets.evaluation.pooled import Losses, Pooled

Floats = NDArray[np.float64]
HORIZON = 8
AUTOCORRELATION, SHARED, ALIKE = 0.3, 0.03, 0.9  # measured: docs/promotion.md
FIT = {"rows": 1, "metric": "wape", "failed": 0, "segments": 1, "compared": {}, "errors": {"served": 0.1}}


@dataclass(frozen=True)
class Case:
    """Gains of the segments, drawn for each repetition, and what is asked."""

    said: str
    gains: Callable[[np.random.Generator, int], Floats]


def spread_gains(mean: float, deviation: float) -> Callable[[np.random.Generator, int], Floats]:
    """True gains that differ by segment."""
    return lambda draw, segments: draw.normal(mean, deviation, segments)


def few_gain(share: float, gain: float) -> Callable[[np.random.Generator, int], Floats]:
    """A share of the segments gains, the others nothing."""
    return lambda draw, segments: np.where(draw.random(segments) < share, gain, 0.0)


CASES = (
    Case("equal", spread_gains(0.0, 0.0)),
    Case("equal in total, segments differ by 5%", spread_gains(0.0, 0.05)),
    Case("2% better", spread_gains(0.02, 0.0)),
    Case("2% better, segments differ by 5%", spread_gains(0.02, 0.05)),
    Case("20% of segments 10% better, others equal", few_gain(0.2, 0.10)),
    Case("2% worse", spread_gains(-0.02, 0.0)),
    Case("2% worse, segments differ by 5%", spread_gains(-0.02, 0.05)),
    Case("5% of segments 50% worse, others equal", few_gain(0.05, -0.5)),
)


def made(draw: np.random.Generator, segments: int, origins: int, gains: Floats, *, same: bool = False) -> Pooled:
    """Two fleets' absolute errors over so many origins, as the gate gets them; with `same` they are of one recipe."""
    periods = origins * HORIZON
    size = np.exp(draw.normal(0, 1.2, segments))[:, None] * np.exp(0.3 * draw.standard_normal((segments, periods)))
    old = _autocorrelated(draw, segments, periods)
    new = ALIKE * old + np.sqrt(1 - ALIKE**2) * _autocorrelated(draw, segments, periods)
    shape = (segments, origins, HORIZON)
    incumbent = np.abs(size * old).reshape(shape).sum(axis=2)
    challenger = ((1 - gains)[:, None] * np.abs(size * new)).reshape(shape).sum(axis=2)
    rows = np.full((segments, origins), HORIZON)
    fleet = Losses(*(part.sum(axis=0, keepdims=True) for part in (rows, challenger, incumbent)))
    names, every = pa.array([f"s{n}" for n in range(segments)]), np.full(segments, same)
    each = Losses(rows, challenger, incumbent)
    return Pooled(names, every, each, fleet, periods, each, periods, HORIZON, same_recipe=same, same_code=True)


def _autocorrelated(draw: np.random.Generator, segments: int, periods: int) -> Floats:
    """AR(1) errors of variance 1, a part of which every segment of a period shares."""
    shocks = np.sqrt(SHARED) * draw.standard_normal(periods) + np.sqrt(1 - SHARED) * draw.standard_normal(
        (segments, periods)
    )
    found = np.empty((segments, periods))
    found[:, 0] = shocks[:, 0]
    for period in range(1, periods):
        before = AUTOCORRELATION * found[:, period - 1]
        found[:, period] = before + np.sqrt(1 - AUTOCORRELATION**2) * shocks[:, period]
    return found


def outcomes(case: Case, segments: int, origins: int, repeat: int, *, same: bool) -> Iterator[tuple[Decision, Floats]]:
    """The gate's decisions on made comparisons, and the gains that were true."""
    for number in range(repeat):
        draw = np.random.default_rng([number, segments, origins])
        gains = case.gains(draw, segments)
        yield decide(FIT, 1.0, pooled=made(draw, segments, origins, gains, same=same)), gains


def line(case: Case, segments: int, origins: int, repeat: int, *, same: bool) -> str:
    """A row of the table: how often promoted, share of segments swapped, and of these the share without a gain."""
    promoted, swapped, wrong = 0, [], []
    for decision, gains in outcomes(case, segments, origins, repeat, same=same):
        promoted += decision.promote
        taken = np.ones(segments, dtype=bool)
        taken[[int(name[1:]) for name in decision.kept["segment"].to_pylist()]] = False
        taken &= decision.promote
        swapped.append(taken.mean())
        wrong.append((taken & (gains <= 0)).sum() / max(taken.sum(), 1))
    numbers = (promoted / repeat, float(np.mean(swapped)), float(np.mean(wrong)))
    return f"| {case.said} | {segments:,} | {origins} | " + " | ".join(f"{number:.1%}" for number in numbers) + " |"


def main() -> None:
    """Prints the table of docs/promotion.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=400)
    parser.add_argument("--segments", type=int, nargs="*", default=[200, 2_000])
    parser.add_argument("--cases", type=int, nargs="*", default=list(range(len(CASES))), help="places in CASES")
    parser.add_argument("--origins", type=int, nargs="*", default=[1, 2, 4, 8, 16])
    parser.add_argument("--same", action="store_true", help="newer data, not another recipe")
    given = parser.parse_args()
    print(
        "| recipe | segments | origins | promoted | segments swapped | swapped without gain |"
        "\n|---|---|---|---|---|---|"
    )
    for case in (CASES[place] for place in given.cases):
        for segments in given.segments:
            for origins in given.origins:
                print(line(case, segments, origins, given.repeat, same=given.same), flush=True)


if __name__ == "__main__":
    main()

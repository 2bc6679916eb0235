"""The segments that a search is made on: classes by size, and an order of each whose every start is like the whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from zlib import crc32

import pyarrow as pa

from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from assets.models.tuning.trial import CANDIDATES, SearchPlan, SearchTask, described
from resources.lake import Lake
from resources.spark import Spark
from resources.spread import spread

REDUCTION = 3  # of those on a rung one in so many goes on, on so many times the segments
STEPS = (1, REDUCTION, REDUCTION**2)  # segments of each rung, as multiples of the first's
SEARCHED = STEPS[-1]  # multiples that trials are compared on
SAMPLED = 2 * SEARCHED  # and as many others that the best is confirmed on
FEWEST_TRIALS, MOST_TRIALS = 20, 60
FEWEST, MOST = 6, 100  # segments of the first rung
TRIAL_COST = 2.8  # rungs that a trial goes through, on average, in segments of the first: some more than 1 + 2/3 + 6/9
BOUNDS = (0, 300, 2_000)  # labelled rows from which a class begins
OVERSAMPLED = 3  # candidates for each segment that is wanted


@dataclass(frozen=True)
class SizeClass:
    """Segments of so many labelled rows before the holdout."""

    least: int
    below: int | None

    @property
    def name(self) -> str:
        """As people read it."""
        if self.below is None:
            return f"from {self.least:,} rows"
        return f"{self.least:,} to {self.below - 1:,} rows" if self.least else f"below {self.below:,} rows"

    def of(self, rows: int) -> bool:
        """Whether a segment of so many rows belongs to it."""
        return self.least <= rows and (self.below is None or rows < self.below)


CLASSES = tuple(SizeClass(least, below) for least, below in zip(BOUNDS, (*BOUNDS[1:], None), strict=True))


@dataclass(frozen=True)
class Candidate:
    """A segment that something can be tried on: its bucket, and how many folds it has."""

    segment: str
    bucket: int
    folds: int


@dataclass(frozen=True)
class Extent:
    """How far a search of a class goes: so many trials, the first rung with so many segments."""

    trials: int
    segments: int


def extent(fits: float, folds: int, segments: int) -> Extent | None:
    """What a number of fits buys in a class of so many segments; None if that would be too little to tell anything."""
    least = folds * FEWEST * (TRIAL_COST * FEWEST_TRIALS + SAMPLED)
    trials = min(MOST_TRIALS, int(FEWEST_TRIALS * (fits / least) ** 0.5))
    if fits < least or segments < FEWEST * SAMPLED:
        return None
    first = min(MOST, segments // SAMPLED, int(fits / (folds * (TRIAL_COST * trials + SAMPLED))))
    affordable = int((fits / (folds * first) - SAMPLED) / TRIAL_COST)
    return Extent(max(trials, min(MOST_TRIALS, affordable)), first)


def allotted(fits: int, folds: int, counts: Mapping[SizeClass, int]) -> dict[SizeClass, tuple[int, Extent]]:
    """Fits and extent of the search of each class, in proportion to its segments.

    A class that gets too little for a search has none, the smallest first, and its fits go to the others.
    """
    left = {each: count for each, count in counts.items() if count}
    while left:
        total = sum(left.values())
        shares = {each: fits * count // total for each, count in left.items()}
        found = {each: extent(shares[each], folds, count) for each, count in left.items()}
        searched = {each: (shares[each], size) for each, size in found.items() if size}
        if len(searched) == len(left):
            return searched
        del left[min((each for each in left if not found[each]), key=lambda each: left[each])]
    return {}


def candidates(lake: Lake, spark: Spark, features: FeatureSet, plan: SearchPlan, wanted: int) -> pa.Table:
    """At least `wanted` segments where there are as many (see `CANDIDATES`), those of evenly strewn buckets, sorted."""
    files = committed_files(lake, features)
    count = max(1, min(len(files), -(-len(files) * wanted // max(1, features.record["segments"]))))
    buckets = sorted(files)
    taken = [buckets[place * len(buckets) // count] for place in range(count)]
    tasks = [SearchTask(bucket, files[bucket]) for bucket in taken]
    return spread(spark, tasks, partial(described, plan=plan), CANDIDATES).sort_by("segment")


def in_order(rows: pa.Table) -> list[Candidate]:
    """Candidates so that the first of any number are spread evenly over small and large labels.

    Sorted by the size of their labels, and taken in the order of van der Corput's sequence (Niederreiter, "Random
    number generation and quasi-Monte Carlo methods", 1992, ch. 3).
    """
    known = sorted(rows.to_pylist(), key=lambda row: (row["scale"], crc32(row["segment"].encode()), row["segment"]))
    order = sorted(range(len(known)), key=lambda place: _place_in_sequence(place, len(known)))
    return [Candidate(known[n]["segment"], known[n]["bucket"], known[n]["folds"]) for n in order]


def fits_of(segments: Sequence[Candidate]) -> int:
    """Fits that one trial makes on some segments."""
    return sum(each.folds for each in segments)


def _place_in_sequence(place: int, of: int) -> int:
    """Mirrors the digits (of base `REDUCTION`) of a place among so many."""
    mirrored, most = 0, 1
    while most < of:
        place, digit = divmod(place, REDUCTION)
        mirrored, most = mirrored * REDUCTION + digit, most * REDUCTION
    return mirrored

"""How a training is divided: a task a bucket, and one for each large segment, so that none runs long after the rest."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from assets.features.contract import BUCKET
from assets.features.publish import SEGMENTS, FeatureSet
from assets.features.rebuild import committed_files
from assets.models.device import Placement
from assets.models.fleet_model import FleetTask
from assets.models.worker import BucketTask
from assets.partitions import bucket_of
from assets.raw.parse import KEY
from assets.raw.recipe import Recipe
from resources.files import filesystem
from resources.lake import Lake
from resources.problems import InputError, Problem

LARGE_SEGMENT = 100_000
NONE: frozenset[str] = frozenset()
# buckets are read whole: a small sample of a large fleet is a quarter of the rows of some of them
SAMPLED_SHARE = 0.25


def training_tasks(
    lake: Lake,
    features: FeatureSet,
    segments: Sequence[str] | None,
    threads: int,
    placement: Placement | None = None,
) -> list[BucketTask]:
    """A task for each large segment, with so many threads, then one for each bucket, the largest first.

    Segments that `placement` sends to a GPU have tasks of their own, a bucket's together unless they are large.

    Raises:
        InputError: a named segment does not exist.
    """
    known = lake.table(SEGMENTS).arrow(columns=[KEY, BUCKET, "__labelled"], version=features.record["segments_version"])
    wanted = None if segments is None else _by_bucket(known, features, segments)
    files = committed_files(lake, features)
    large = _segments_from(LARGE_SEGMENT, known, wanted)
    placed = _segments_from(placement.minimum_rows, known, wanted) if placement else {}
    device = placement.device if placement else None
    alone = [
        BucketTask(bucket, files[bucket], frozenset([key]), threads=1 if at else threads, device=at)
        for bucket, keys in large.items()
        for key in sorted(keys)
        for at in [device if key in placed.get(bucket, NONE) else None]
    ]
    together = [
        BucketTask(bucket, files[bucket], own, device=device)
        for bucket, keys in placed.items()
        if (own := keys - large.get(bucket, NONE))
    ]
    rest = [
        BucketTask(bucket, own, None if wanted is None else frozenset(wanted[bucket]), elsewhere)
        for bucket, own in files.items()
        if wanted is None or bucket in wanted
        for elsewhere in [large.get(bucket, NONE) | placed.get(bucket, NONE)]
    ]
    return alone + sorted(together + rest, key=lambda task: -_size(task.files))


def fleet_task(lake: Lake, features: FeatureSet, recipe: Recipe, name: str) -> FleetTask:
    """Which buckets the fleet-wide model's sample comes from, evenly strewn, and which share of their rows."""
    files = committed_files(lake, features)
    share = min(1.0, recipe.fleet_rows / max(1, features.record["rows"]["valid"]))
    count = max(1, min(len(files), round(len(files) * share / SAMPLED_SHARE)))
    buckets = sorted(files)
    taken = [buckets[place * len(buckets) // count] for place in range(count)]
    return FleetTask(tuple(files[bucket] for bucket in taken), min(1.0, share * len(files) / count), lake.root, name)


def _segments_from(least: int, known: pa.Table, wanted: dict[int, set[str]] | None) -> dict[int, frozenset[str]]:
    """Those wanted segments that have so many labelled rows, by bucket."""
    rows = known.filter(pc.greater_equal(known["__labelled"], least))
    found: dict[int, frozenset[str]] = {}
    for key, bucket in zip(rows[KEY].to_pylist(), rows[BUCKET].to_pylist(), strict=True):
        if wanted is None or key in wanted.get(bucket, ()):
            found[bucket] = found.get(bucket, frozenset()) | {key}
    return found


def _by_bucket(known: pa.Table, features: FeatureSet, segments: Sequence[str]) -> dict[int, set[str]]:
    asked = pa.array(sorted(set(segments)), pa.string())
    missing = asked.filter(pc.invert(pc.is_in(asked, known[KEY].combine_chunks()))).to_pylist()
    if missing:
        shown = ", ".join(repr(key) for key in missing[:10])
        remedy = "write the values in the order of `segment`, joined by |"
        raise InputError([Problem("--segment", f"no such segment: {shown}", remedy)])
    wanted: dict[int, set[str]] = {}
    for key in segments:
        wanted.setdefault(bucket_of(key, features.buckets), set()).add(key)
    return wanted


def _size(files: Sequence[str]) -> int:
    return sum(system.get_file_info(path).size for system, path in map(filesystem, files))

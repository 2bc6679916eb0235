"""Weeks of comparisons put together: what the same two recipes did on clean rows, by segment and origin block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.evaluation.comparisons import COMPARISON, COMPARISONS, recipe_in
from assets.models.error_sums import ROOTS
from resources.lake import Lake

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
MOST_BLOCKS = 32  # enough to be sure, few enough for 50,000 segments in memory


@dataclass(frozen=True)
class Losses:
    """Losses of both fleets by segment and block (0 where a segment has no clean row); `root` makes them an error."""

    rows: Ints
    challenger: Floats
    incumbent: Floats
    root: int = 1

    @property
    def defined(self) -> NDArray[np.bool_]:
        """Segments all of whose losses are numbers."""
        both = np.isfinite(self.challenger) & np.isfinite(self.incumbent)
        return np.asarray(both.all(axis=1), dtype=bool)


@dataclass(frozen=True)
class Pooled:
    """Clean rows of this evaluation and of earlier ones in which the same recipes met, newest blocks first kept.

    `fleet` has one row, the whole fleet's losses by block, of the weeks in which the two fleets were of these recipes;
    `segments` also what a segment's own two models, if of the same recipes, did in other weeks. `latest` is this
    evaluation's part alone, by segment. `same` says of which segments the challenger's recipe is the incumbent's.
    """

    names: pa.Array
    same: NDArray[np.bool_]
    segments: Losses
    fleet: Losses
    periods: int
    latest: Losses
    latest_periods: int
    horizon: int
    same_recipe: bool
    same_code: bool
    first_clean: str | None = None

    @property
    def origins(self) -> int:
        """Blocks in which the fleets met."""
        return int((self.fleet.rows > 0).sum())


def pooled_comparison(lake: Lake, record: dict[str, Any]) -> Pooled | None:
    """What an evaluation's record and the comparisons before it tell of challenger and incumbent; None without one."""
    facts = record.get(COMPARISON)
    if facts is None:
        return None
    known = _comparable(lake, facts)
    parts = _parts_once(known, facts)
    table = lake.table(COMPARISONS).arrow(
        where=[(COMPARISON, "in", sorted({part[0] for part in parts} | {facts[COMPARISON]}))]
    )
    own = table.filter(pc.equal(table[COMPARISON], facts[COMPARISON]))
    main = {r[COMPARISON] for r in known if r["incumbent"] == facts["incumbent"]}
    return _assembled(facts, own, table, parts, main)


def _comparable(lake: Lake, facts: dict[str, Any]) -> list[dict[str, Any]]:
    """Comparisons of the same challenging recipe up to this one, newest first; rows without time are not pooled."""
    found = {r[COMPARISON]: r for r in lake.table(COMPARISONS).records().values() if COMPARISON in r}
    if facts["timeless"]:
        return [found[facts[COMPARISON]]]
    alike = (r for r in found.values() if all(r[name] == facts[name] for name in ("challenger", "metric")))
    earlier = (record for record in alike if record["through"] <= facts["through"])
    return sorted(earlier, key=lambda record: -record["through"])


def _parts_once(known: Sequence[dict[str, Any]], facts: dict[str, Any]) -> list[tuple[str, int, int]]:
    """(comparison, block, periods) so that no calendar period is counted twice, of the newest blocks.

    Weekly holdouts overlap while an incumbent stays: the longest part of a block comes first, then what fits beside it.
    """
    offered = [
        (
            record["incumbent"] != facts["incumbent"],
            first - last,
            -record["through"],
            record[COMPARISON],
            block,
            first,
            last,
        )
        for record in known
        for block, first, last in record["parts"]
    ]
    newest = sorted({part[4] for part in offered}, reverse=True)[:MOST_BLOCKS]
    covered: set[int] = set()
    found = []
    for *_, identity, block, first, last in sorted(offered):
        periods = range(first, last + 1)
        if block in newest and covered.isdisjoint(periods):
            covered.update(periods)
            found.append((identity, block, len(periods)))
    return found


def _assembled(
    facts: dict[str, Any], own: pa.Table, table: pa.Table, parts: Sequence[tuple[str, int, int]], main: set[str]
) -> Pooled:
    identities = pa.array(sorted({part[0] for part in parts} | {facts[COMPARISON]}), pa.string())
    blocks = np.array(sorted({part[1] for part in parts}), dtype=np.int64)
    taken = np.zeros((len(identities), len(blocks)), dtype=bool)
    for identity, block, _ in parts:
        taken[identities.index(identity).as_py(), np.searchsorted(blocks, block)] = True
    names, kinds = _current(own)
    table = table.filter(pc.is_valid(table["block"]))
    of_block = np.searchsorted(blocks, _numbers(table["block"]).astype(np.int64)) if len(blocks) else np.zeros(0, int)
    of_block = np.minimum(of_block, max(len(blocks) - 1, 0))
    place = _places(table[COMPARISON], identities)
    once = taken[place, of_block] & (blocks[of_block] == _numbers(table["block"])) if len(blocks) else np.zeros(0, bool)
    of_main = np.isin(place, [i for i, name in enumerate(identities.to_pylist()) if name in main])
    latest = place == identities.index(facts[COMPARISON]).as_py()
    segment, root = _places(table["segment"], names), ROOTS.get(facts["metric"], 1)
    alike = (segment >= 0) & _alike(table, kinds, segment)
    finite = np.isfinite(_numbers(table["challenger"])) & np.isfinite(_numbers(table["incumbent"]))
    size = (len(names), len(blocks))
    whole = np.zeros(len(table), dtype=np.int64)
    fleet = _losses(table, once & of_main & finite, whole, of_block, (1, len(blocks)), root)
    met = {(identity, block) for identity, block, _ in parts if identity in main}
    return Pooled(
        names=names,
        same=kinds["same"],
        segments=_losses(table, once & alike, segment, of_block, size, root),
        fleet=fleet,
        periods=sum(periods for identity, block, periods in parts if (identity, block) in met),
        latest=_losses(table, latest & finite, segment, of_block, size, root),
        latest_periods=sum(last - first + 1 for _, first, last in facts["parts"]),
        horizon=facts["horizon"],
        same_recipe=recipe_in(facts["challenger"]) == recipe_in(facts["incumbent"]),
        same_code=facts["challenger"].partition("/")[2] == facts["incumbent"].partition("/")[2],
        first_clean=facts["incumbent_last_label"],
    )


def _current(own: pa.Table) -> tuple[pa.Array, dict[str, Any]]:
    """The segments that both fleets have, and of what recipe and code their two models are today."""
    names = own["segment"].combine_chunks().unique()
    first = own.take(pc.index_in(names, own["segment"].combine_chunks()))
    kinds: dict[str, Any] = {name: first[name].combine_chunks() for name in ("challenger_kind", "incumbent_kind")}
    recipes = [pc.list_element(pc.split_pattern(kind, "/"), 0) for kind in kinds.values()]
    kinds["same"] = pc.equal(*recipes).to_numpy(zero_copy_only=False) if len(names) else np.zeros(0, dtype=bool)
    return names, kinds


def _alike(table: pa.Table, kinds: dict[str, Any], segment: Ints) -> NDArray[np.bool_]:
    """Rows whose two models are of the recipes and code that the segment's two models are of today."""
    found = np.ones(len(table), dtype=bool)
    if not len(kinds["same"]):
        return np.zeros(len(table), dtype=bool)
    place = pa.array(np.maximum(segment, 0))
    for name in ("challenger_kind", "incumbent_kind"):
        found &= pc.equal(table[name], kinds[name].take(place)).to_numpy(zero_copy_only=False)
    return found


def _losses(
    table: pa.Table, used: NDArray[np.bool_], segment: Ints, block: Ints, size: tuple[int, int], root: int
) -> Losses:
    cell = (segment * size[1] + block)[used]
    rows = table.filter(pa.array(used))

    def summed(name: str) -> Floats:
        return np.bincount(cell, _numbers(rows[name]), minlength=size[0] * size[1]).reshape(size).astype(np.float64)

    return Losses(summed("rows").astype(np.int64), summed("challenger"), summed("incumbent"), root)


def _places(values: pa.ChunkedArray, among: pa.Array) -> Ints:
    return pc.fill_null(pc.index_in(values, among), -1).to_numpy().astype(np.int64)


def _numbers(column: pa.ChunkedArray) -> Floats:
    return column.to_numpy().astype(np.float64)

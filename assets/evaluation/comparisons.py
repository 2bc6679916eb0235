"""Comparisons of challenger and incumbent on clean rows, kept week by week, and put together again.

An incumbent was promoted by a gate that saw its week's holdout: rows are clean for it only after the last label that
was known then. A week brings few of them, so each evaluation's are kept (`comparisons`: a row a segment and origin
block), and weeks in which the same two recipes met are pooled, each calendar period once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from assets.code_version import version_of
from assets.evaluation.incumbent import Champion
from assets.evaluation.origins import BLOCKS_WITHOUT_TIME, blocks_of
from assets.models.store import TRAINING, UNKNOWN, Training
from assets.raw.recipe import Recipe
from resources.files import write_parquet
from resources.lake import Lake

COMPARISONS = "comparisons"
COMPARISON = "comparison"
# `block` is null where a segment has no clean row; kinds say which recipe and code each of the two models is of
ROWS = pa.schema(
    [
        ("segment", pa.string()),
        ("block", pa.int64()),
        ("rows", pa.int64()),
        ("challenger", pa.float64()),
        ("incumbent", pa.float64()),
        ("challenger_kind", pa.string()),
        ("incumbent_kind", pa.string()),
        (COMPARISON, pa.string()),
    ]
)


def kind_of(training: Training) -> str:
    """Recipe and code of a training, `RECIPE/CODE`: models of one kind differ in nothing but the rows they know."""
    code = [training.record.get(name, UNKNOWN) for name in ("code_version", "features_code_version")]
    return f"{training.recipe.refitted_digest}/{version_of(*code)}"


def recipe_in(kind: str) -> str:
    """The recipe of a kind, whatever the code."""
    return kind.partition("/")[0]


def main_training(champion: Champion, known: Mapping[str, Training]) -> Training | None:
    """The training that most of a champion's segments come from, of those that are known."""
    counted = pc.value_counts(champion.listing[TRAINING]).to_pylist()
    found = [(row["counts"], row["values"]) for row in counted if row["values"] in known]
    return known[max(found)[1]] if found else None


def comparison_facts(
    digest: str, challenger: Training, champion: Champion, known: Mapping[str, Training], after: int, through: int
) -> dict[str, Any] | None:
    """What is known of a comparison before its rows are; None where the champion's trainings are no longer known."""
    main, recipe = main_training(champion, known), challenger.recipe
    if main is None:
        return None
    return {
        COMPARISON: version_of(digest, champion.version, champion.tags.get("published")),
        "evaluation": digest,
        "champion_version": champion.version,
        "metric": recipe.metric,
        "timeless": recipe.time is None,
        "horizon": recipe.horizon,
        "challenger": kind_of(challenger),
        "incumbent": kind_of(main),
        "incumbent_training": main.id,
        "incumbent_last_label": main.record.get("last_label"),
        "incumbent_raw_digest": main.record.get("raw_digest"),
        "after": after,
        "through": through,
        "parts": _parts(recipe, after, through),
    }


def _parts(recipe: Recipe, after: int, through: int) -> list[list[int]]:
    """(block, first period, last period) of the clean rows; without time each block stands for itself."""
    import numpy as np

    if recipe.time is None:
        return [[block, block, block] for block in range(BLOCKS_WITHOUT_TIME)]
    periods = np.arange(after + 1, through + 1)
    blocks, starts, counts = np.unique(blocks_of(periods, recipe), return_index=True, return_counts=True)
    ends = starts + counts - 1
    return np.column_stack([blocks, periods[starts], periods[ends]]).tolist() if len(periods) else []


def comparison_rows(
    facts: dict[str, Any], judged: pa.Table, challenger: pa.Table, champion: Champion, known: Mapping[str, Training]
) -> pa.Table:
    """The rows of a comparison (see `ROWS`): of segments that both fleets have, by block."""
    kinds = {key: kind_of(training) for key, training in known.items()}
    ours, theirs = (_kinds(listing, kinds) for listing in (challenger, champion.listing))
    compared = judged.select(["segment", "blocks", "block_rows", "block_challenger", "block_incumbent"])
    compared = compared.filter(pc.is_in(compared["segment"], theirs["segment"].combine_chunks())).combine_chunks()
    parents = pc.list_parent_indices(compared["blocks"])
    names = {"block": "blocks", "rows": "block_rows", "challenger": "block_challenger", "incumbent": "block_incumbent"}
    columns = {"segment": compared["segment"].take(parents)}
    columns |= {name: pc.list_flatten(compared[column]) for name, column in names.items()}
    found = pa.table(columns)
    absent = compared["segment"].filter(pc.invert(pc.is_in(compared["segment"], found["segment"].combine_chunks())))
    empty = {"segment": absent, "rows": pa.array([0] * len(absent), pa.int64())}
    blank = {f.name: empty.get(f.name, pa.nulls(len(absent), f.type)) for f in found.schema}
    found = pa.concat_tables([found, pa.table(blank, schema=found.schema)])
    for name, listed in (("challenger_kind", ours), ("incumbent_kind", theirs)):
        places = pc.index_in(found["segment"], listed["segment"].combine_chunks())
        found = found.append_column(name, listed["kind"].take(places))
    found = found.append_column(COMPARISON, pa.array([facts[COMPARISON]] * len(found), pa.string()))
    return found.select(ROWS.names).cast(ROWS)


def _kinds(listing: pa.Table, kinds: Mapping[str, str]) -> pa.Table:
    places = pc.index_in(listing[TRAINING], pa.array(list(kinds), pa.string()))
    found = (
        pa.array(list(kinds.values()), pa.string()).take(pc.fill_null(places, 0).combine_chunks()) if kinds else None
    )
    kind = pc.if_else(pc.is_valid(places), pa.chunked_array([found]), UNKNOWN) if found is not None else UNKNOWN
    column = kind if isinstance(kind, pa.ChunkedArray) else pa.chunked_array([pa.array([kind] * len(listing))])
    return pa.table({"segment": listing["segment"], "kind": column})


def keep_comparison(lake: Lake, facts: dict[str, Any], rows: pa.Table) -> None:
    """Commits a comparison, once."""
    table = lake.table(COMPARISONS)
    if any(record.get(COMPARISON) == facts[COMPARISON] for record in table.records().values()):
        return
    with table.staging() as staging:
        name = f"{staging.uri}/{COMPARISON}={facts[COMPARISON]}/rows.parquet"
        write_parquet(rows.drop_columns([COMPARISON]).sort_by("segment"), name)
        table.commit(staging, ROWS, facts, mode="append", partition_by=[COMPARISON])

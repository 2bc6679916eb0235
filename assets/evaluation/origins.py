"""Origin blocks: stretches of a horizon, in which errors are summed so that luck can be told from skill."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from assets.models.error_sums import LOSSES, Asked, discordant_pairs, row_losses
from assets.raw.recipe import Recipe
from assets.raw.split import ROWS_A_CLASS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
BLOCKS_WITHOUT_TIME = 16
# a segment's losses on the rows that a comparison may use, a list entry a block
BLOCKS = pa.schema(
    [
        ("blocks", pa.list_(pa.int64())),
        ("block_rows", pa.list_(pa.int64())),
        ("block_challenger", pa.list_(pa.float64())),
        ("block_incumbent", pa.list_(pa.float64())),
    ]
)


def blocks_of(periods: Ints, recipe: Recipe) -> Ints:
    """The block each period lies in: `period // horizon`, the same in every week, so that weeks can be put together.

    Forecasts from one origin share its surprises for a horizon; blocks of that length are the unit that is resampled.
    Rows without time are independent by their hash: each of a few blocks gets every so manieth.
    """
    if recipe.time is None:
        return periods % ROWS_A_CLASS % BLOCKS_WITHOUT_TIME
    return periods // recipe.horizon


def block_losses(
    periods: Ints, labels: Floats, challenger: Floats, incumbent: Floats, recipe: Recipe
) -> dict[str, list[float] | list[int]]:
    """A segment's losses by block (see `BLOCKS`), of the metric's kind; pairs of the AUC are those within a block."""
    blocks = blocks_of(periods, recipe)
    order = np.argsort(blocks, kind="stable")
    names, starts, counts = np.unique(blocks[order], return_index=True, return_counts=True)
    found: dict[str, list[float] | list[int]] = {"blocks": names.tolist(), "block_rows": counts.tolist()}
    for name, forecast in (("challenger", challenger), ("incumbent", incumbent)):
        found[f"block_{name}"] = _summed(labels[order], forecast[order], starts, recipe)
    return found


def _summed(labels: Floats, forecast: Floats, starts: Ints, recipe: Recipe) -> list[float]:
    loss = LOSSES[recipe.metric]
    if not len(starts):
        return []
    if loss == "discordant":
        parts = zip(np.split(labels, starts[1:]), np.split(forecast, starts[1:]), strict=True)
        return [discordant_pairs(*part) or 0.0 for part in parts]
    return np.add.reduceat(row_losses(labels, forecast, loss, Asked.of(recipe.model)), starts).tolist()

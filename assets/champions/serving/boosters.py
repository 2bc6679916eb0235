"""Packed models to boosters, none but those that were fitted. This is the one place that decides whether a model is."""

from __future__ import annotations

import struct
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from assets.champions.serving.question import Floats
from assets.champions.serving.refusal import LostModelsError
from assets.models.packing import SIZES, model_digest, unpacked

if TYPE_CHECKING:
    from lightgbm import Booster

MEMORY_A_TEXT = 1.65  # bytes a booster takes in memory for each of its text: measured over a thousand


@dataclass(frozen=True)
class Loaded:
    """A booster, and about how many bytes it takes."""

    booster: Booster
    size: int


@dataclass(frozen=True)
class LoadedFleetModel:
    """The fleet-wide model: it sees a segment as the place of each of its values in a list."""

    booster: Booster
    categories: dict[str, list[str]]

    def codes(self, identity: list[str | None]) -> Floats:
        """What the model sees of a segment, given as the values of its identity columns."""
        return np.array([_place(value, known) for value, known in zip(identity, self.categories.values(), strict=True)])


def verified(model: bytes | None, digest: str | None, where: str) -> bytes:
    """A packed model, if its bytes are those that `digest` was made of (None: it is not known).

    Raises:
        LostModelsError: there is no model, or not the one that was fitted.
    """
    if model is None:
        raise LostModelsError(f"{where} is not there")
    if digest is not None and digest != model_digest(model):
        raise LostModelsError(f"{where} is not the one that was fitted")
    return model


def whole_booster(model: bytes | None, digest: str | None, where: str) -> Loaded:
    """The booster of a packed model that is `verified`.

    Raises:
        LostModelsError: there is no model, not the one that was fitted, or one that cannot be read.
    """
    from lightgbm.basic import LightGBMError

    whole = verified(model, digest, where)
    try:
        return Loaded(unpacked(whole), int(MEMORY_A_TEXT * SIZES.unpack_from(whole)[0]))
    except (struct.error, UnicodeDecodeError, OSError, pa.ArrowException, LightGBMError) as error:
        raise LostModelsError(f"{where} cannot be read: {error}") from None


def _place(value: str | None, known: list[str]) -> float:
    if value is None:
        return np.nan
    place = bisect_left(known, value)
    return float(place) if place < len(known) and known[place] == value else np.nan

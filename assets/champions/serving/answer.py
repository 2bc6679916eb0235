"""Forecasts of rows of any mix of segments: by the segment's own model, the fleet-wide one, the baseline or all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd

from assets.champions.serving.asked import Asked, asked_rows
from assets.champions.serving.question import Floats, Inputs, Ints, Place, Question, SegmentFeatures
from assets.champions.serving.refusal import Mistakes
from assets.models.blend import blended, rest_of, serves
from assets.models.fit import predict
from assets.models.line import BASELINE, FLEET_MODEL, SEGMENT_MODEL
from assets.models.quantiles import quantile_name

if TYPE_CHECKING:
    from assets.champions.serving.boosters import Loaded, LoadedFleetModel
    from assets.champions.serving.known import KnownSegments

AT_ONCE = 128


class View(Protocol):
    """A published fleet beside committed features, as they are during one request."""

    question: Question
    segments: KnownSegments
    levels: tuple[float, ...]

    def places(self, keys: Sequence[str]) -> list[Place]:
        """Who serves each of some known segments."""

    def rows(self, key: str, training: str | None, past: bool) -> SegmentFeatures:
        """Committed rows of a segment, those of the horizon or with `past` all; without a training: without inputs."""

    def boosters(self, places: Sequence[Place]) -> Mapping[str, Loaded]:
        """The segments' own models."""

    def fleet_model(self, training: str) -> LoadedFleetModel | None:
        """The fleet-wide model of a training; None where there is none."""

    def baselines(self, key: str, periods: Ints) -> Mapping[str, Floats]:
        """The baselines' forecasts of a segment."""


@dataclass(frozen=True)
class _Part:
    """The rows of a request that are of one segment."""

    place: Place
    at: int
    rows: Ints
    x: Floats
    there: np.ndarray


def answered(view: View, version: int | None, frame: Any) -> pd.DataFrame:
    """A row for each row of the frame, in order: `forecast`, `model` (who made it), `version`, and the quantiles.

    A quantile is None where the fleet has none of the segment.

    Raises:
        InputError: mistakes in the rows; every one is told.
        LostModelsError: a model that should serve is missing or corrupt.
        NotServableError: a model looks at features that are not committed any more.
    """
    asked = asked_rows(frame, view.question, view.segments)
    count = len(asked.of_segment)
    if not count:
        nothing: dict[str, list[float]] = {quantile_name(level): [] for level in view.levels}
        return pd.DataFrame({"forecast": [], "model": [], "version": [], **nothing})
    around = np.full((count, len(view.levels)), np.nan)
    forecast, model = np.full(count, np.nan), np.full(count, BASELINE, dtype=object)
    parts = list(_parts(view, asked))
    said = {SEGMENT_MODEL: np.full(count, np.nan), FLEET_MODEL: np.full(count, np.nan)}
    for made_by, rows, values in [*_by_own(view, parts), *_by_fleet(view, parts)]:
        said[made_by][rows] = values
    for part in parts:
        own = {name: values[part.rows] for name, values in said.items() if name in part.place.weights}
        naive = np.full(len(part.rows), np.nan)
        if (rest_of(part.place.weights, own, len(part.rows)) > 0).any():
            baselines = view.baselines(part.place.segment, asked.periods[part.rows])
            own, naive = {**own, **baselines}, baselines[BASELINE]
        forecast[part.rows], by_model = blended(part.place.weights, own, naive)
        model[part.rows] = np.where(by_model, serves(part.place.weights), BASELINE)
        span, steps = view.question.span, view.question.span.steps(asked.periods[part.rows])
        around[part.rows] = part.place.quantiles.around(forecast[part.rows], steps, span.horizon, view.levels)
    versions = np.full(count, version, dtype=object if version is None else np.int64)
    quantiles = {quantile_name(level): _or_none(around[:, place]) for place, level in enumerate(view.levels)}
    return pd.DataFrame({"forecast": forecast, "model": model, "version": versions, **quantiles})


def _or_none(values: Floats) -> Floats | np.ndarray:
    unknown = np.isnan(values)
    if not unknown.any():
        return values
    told = values.astype(object)
    told[unknown] = None
    return told


def _parts(view: View, asked: Asked) -> Iterator[_Part]:
    """The request by segment, with the inputs of each row and whether there are any.

    Raises:
        InputError: a segment has no row at a time.
    """
    mistakes, inputs_of = Mistakes(), view.question.inputs
    order = np.argsort(asked.of_segment, kind="stable")
    ends = np.cumsum(np.bincount(asked.of_segment, minlength=len(asked.places)))[:-1]
    places = view.places([view.segments.keys[at] for at in asked.places])
    found = []
    for place, at, rows in zip(places, asked.places, np.split(order, ends), strict=True):
        inputs = inputs_of.get(place.training or "") if place.weights else None
        if asked.direct:
            if inputs is None and view.question.time:
                what = "is served by the baseline, which looks at the time alone"
                mistakes.add(rows.tolist(), f"segment {place.segment!r}", what, f"bring {view.question.time!r} only")
            x = np.full((len(rows), len(inputs.features) if inputs else 0), np.nan)
            there = np.full(len(rows), inputs is not None)
        else:
            x, there = _committed(view, place, inputs, rows, asked, mistakes)
        if inputs is not None:
            x = asked.with_brought(x, rows, place.training or "", inputs)
        found.append(_Part(place, at, rows, x, there))
    mistakes.refuse()
    yield from found


def _committed(
    view: View, place: Place, inputs: Inputs | None, rows: Ints, asked: Asked, mistakes: Mistakes
) -> tuple[Floats, np.ndarray]:
    """The committed inputs of some rows of a segment, and which of them its model reaches."""
    periods, last = asked.periods[rows], view.question.span.last
    past = bool((periods <= last).any())
    if inputs is not None:
        x, reached = view.rows(place.segment, place.training, past).at(periods)
        reached &= periods <= inputs.through
        if reached.all():
            return x, reached
    nothing, there = view.rows(place.segment, None, past).at(periods)
    if not there.all():
        where = f"segment {place.segment!r}"
        what = f"has no committed row at that {view.question.time}, and so no features"
        mistakes.add(rows[~there].tolist(), where, what, "ask for a time that it has a row of, or is forecast for")
    return (nothing, np.zeros(len(rows), bool)) if inputs is None else (x, reached)


def _by_own(view: View, parts: Sequence[_Part]) -> Iterator[tuple[str, Ints, Floats]]:
    mine = [part for part in parts if SEGMENT_MODEL in part.place.weights and part.there.any()]
    mine.sort(key=lambda part: part.place.shard or "")  # models of one shard are read together
    for start in range(0, len(mine), AT_ONCE):
        some = mine[start : start + AT_ONCE]
        loaded = view.boosters([part.place for part in some])
        for part in some:
            inputs = view.question.inputs[part.place.training or ""]
            made = predict(loaded[part.place.segment].booster, part.x, {"label_transform": inputs.label_transform})
            yield SEGMENT_MODEL, part.rows, np.where(part.there, made, np.nan)


def _by_fleet(view: View, parts: Sequence[_Part]) -> Iterator[tuple[str, Ints, Floats]]:
    mine = [part for part in parts if FLEET_MODEL in part.place.weights and part.there.any()]
    for training in sorted({part.place.training or "" for part in mine}):
        model, some = view.fleet_model(training), [part for part in mine if part.place.training == training]
        if model is None:
            continue
        codes = [model.codes(view.segments.identity(part.at)) for part in some]
        x = [np.hstack([part.x, np.tile(own, (len(part.x), 1))]) for part, own in zip(some, codes, strict=True)]
        transform = {"label_transform": view.question.inputs[training].label_transform}
        made, rows = predict(model.booster, np.vstack(x), transform), np.concatenate([part.rows for part in some])
        yield FLEET_MODEL, rows, np.where(np.concatenate([part.there for part in some]), made, np.nan)

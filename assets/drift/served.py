"""What was asked of the REST service and what it answered, against what the champion learnt from and is forecast.

Two references, since what clients bring is of some season: the rows that the champion was trained on, and what is
committed for the horizon (columns known ahead, the batch forecasts). A column is as far off as it is from the nearer
one. Statistics and effects are those of `assets.drift.statistics`. The log has no segments: one that is asked for much
more often than it has rows moves a distribution as well.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from assets.champions.serving.watch import SAMPLE, SAMPLED_A_REQUEST, SERVING
from assets.code_version import code_version, version_of
from assets.drift.statistics import Windows, chi_square_windows, ks_windows
from assets.drift.windows import chi_square_score, kolmogorov_score
from assets.evaluation.incumbent import Champion
from assets.evaluation.issues import FORECASTS
from assets.features.publish import FEATURES, FeatureSet, current_features
from assets.features.rebuild import committed_files
from assets.raw.parse import PERIOD
from assets.remembered import remembered
from resources.files import filesystem
from resources.lake import Lake

RECENT, BUCKETS_READ = timedelta(days=7), 2
FEWEST = 50.0  # rows, each counted by what it is worth, below which nothing is said
MOST = 20_000  # rows that are compared
LEVEL = 0.01  # of all columns together (Bonferroni): how often chance alone may say that a quiet one moved
OUTPUT = "forecast"
TRAINED, AHEAD = "trained on", "committed for the horizon"
JUDGED, TOO_FEW, NO_REFERENCE = "judged", "too few", "no reference"
CODE_VERSION = code_version("assets.drift.served", "assets.drift.statistics", "assets.drift.windows")
NAME, SERVED_VALUES = "served_values", "what was served against the champion's own"
Rows = TypeVar("Rows", "pd.Series[Any]", pd.DataFrame)


@dataclass(frozen=True)
class ServedColumn:
    """A column of what was served in the last week of the log against the nearer reference.

    `worth` is the effective number of `rows`; `effect` the Wasserstein distance in standard deviations of the
    reference, of categories the population stability index. `p_value` is of Kolmogorov-Smirnov or chi-square.
    """

    column: str
    state: str
    rows: int
    worth: float
    reference: str | None = None
    effect: float | None = None
    p_value: float | None = None
    median: float | None = None
    usual: float | None = None


def served_columns(lake: Lake, champion: Champion | None) -> list[ServedColumn]:
    """The forecast and each input that was brought, of rows that the champion answered; none where it answered none."""
    table = lake.table(SAMPLE)
    # the sample is committed first: a run that died in between leaves it alone
    if champion is None or not all(lake.table(name).exists() for name in (SAMPLE, SERVING, FEATURES)):
        return []
    features, published = current_features(lake), champion.tags["published"]
    versions = (table.version(), lake.table(SERVING).version(), lake.table(FORECASTS).version())
    digest = version_of(published, features.digest, *map(str, versions), CODE_VERSION)
    found = remembered(lake, NAME, digest, lambda: _found(lake, champion, features))
    return [ServedColumn(**row) for row in found["columns"]]


def shifted(columns: list[ServedColumn], least: float) -> list[ServedColumn]:
    """The columns that chance does not explain, and that lie at least `least` off both references."""
    level = LEVEL / max(sum(each.state == JUDGED for each in columns), 1)
    judged = (each for each in columns if each.p_value is not None and each.effect is not None)
    return [each for each in judged if (each.p_value or 0.0) <= level and (each.effect or 0.0) >= least]


def shift_table(columns: list[ServedColumn]) -> pd.DataFrame:
    """A row a column of what was served, the one that is farthest off first."""
    names = [each.name for each in fields(ServedColumn)]
    rows = pd.DataFrame([asdict(each) for each in columns], columns=names)
    return rows.sort_values("effect", ascending=False, na_position="last", ignore_index=True)


def recent_sample(lake: Lake, version: int | None = None) -> pd.DataFrame:
    """Rows of the sample of the last week of the log: `model`, `forecast`, `inputs` (JSON); of one version, or all."""
    table = lake.table(SAMPLE)
    if not table.exists():
        return pd.DataFrame({"model": [], OUTPUT: [], "inputs": []})
    rows = table.arrow(["hour", "version", "model", OUTPUT, "inputs"]).to_pandas()
    if version is not None:
        rows = rows[rows["version"] == version]
    return rows[rows["hour"] > rows["hour"].max() - RECENT]


def committed_values(lake: Lake, features: FeatureSet, names: list[str]) -> pd.DataFrame:
    """Committed values of some columns, and their periods, of a few buckets: segments are dealt to them by hash."""
    import pyarrow.parquet as pq

    files, parts = committed_files(lake, features), [pd.DataFrame({PERIOD: []})]
    for file in (file for bucket in sorted(files)[:BUCKETS_READ] for file in files[bucket]):
        system, path = filesystem(file)
        with system.open_input_file(path) as stream:
            opened = pq.ParquetFile(stream)
            wanted = [PERIOD, *(name for name in names if name != PERIOD and name in opened.schema_arrow.names)]
            parts.append(opened.read(columns=wanted).to_pandas())
    return pd.concat(parts, ignore_index=True)


def _found(lake: Lake, champion: Champion, features: FeatureSet) -> dict[str, Any]:
    rows = _some(recent_sample(lake, champion.version))
    inputs = pd.DataFrame([json.loads(text) for text in rows["inputs"]], index=rows.index)
    brought, label = sorted(map(str, inputs.columns)), features.recipe.label
    committed = committed_values(lake, features, [*brought, label])
    trained = committed[committed[PERIOD] <= _trained_through(champion, features)]
    ahead = committed[committed[PERIOD] > features.profile.last_period]
    worth = 1 / _rows_a_request(lake, champion.version)
    of = {name: {TRAINED: trained.get(name), AHEAD: ahead.get(name)} for name in brought}
    found = [_compared(name, inputs[name], of[name], worth) for name in brought]
    if len(rows):
        answers = {TRAINED: trained.get(label), AHEAD: _forecasts(lake, champion.version)}
        found = [_compared(OUTPUT, rows[OUTPUT], answers, worth), *found]
    return {"columns": [asdict(each) for each in found]}


def _trained_through(champion: Champion, features: FeatureSet) -> int:
    known = pc.max(champion.listing["trained_through"]).as_py()
    return features.profile.last_period if known is None or not features.recipe.time else int(known)


def _rows_a_request(lake: Lake, version: int) -> float:
    """By how much a row of the sample counts too much, at most: those of one request may all be alike (Kish 1965)."""
    hours = lake.table(SERVING).arrow(["version", "requests", "refused", "failed", "rows"]).to_pandas()
    said = hours[hours["version"] == version].sum()
    answered = max(said["requests"] - said["refused"] - said["failed"], 1)
    return float(np.clip(said["rows"] / answered, 1.0, SAMPLED_A_REQUEST))


def _forecasts(lake: Lake, version: int) -> pd.Series[Any] | None:
    table = lake.table(FORECASTS)
    if not table.exists():
        return None
    rows = table.arrow([OUTPUT, "version"])
    return rows.filter(pc.equal(rows["version"], version))[OUTPUT].to_pandas()


def _compared(
    name: str, current: pd.Series[Any], references: Mapping[str, pd.Series[Any] | None], worth: float
) -> ServedColumn:
    is_number = not current.dropna().map(lambda value: isinstance(value, str)).any()
    values = _cells(current, is_number=is_number)
    said = ServedColumn(name, TOO_FEW, len(values), len(values) * worth)
    if said.worth < FEWEST:
        return said
    candidates = {key: _some(_cells(own, is_number=is_number)) for key, own in references.items() if own is not None}
    found = [
        _against(said, values, reference, key, is_number=is_number)
        for key, reference in candidates.items()
        if len(reference)
    ]
    return min(found, key=lambda each: each.effect or 0.0, default=ServedColumn(name, NO_REFERENCE, *_counts(said)))


def _counts(said: ServedColumn) -> tuple[int, float]:
    return said.rows, said.worth


def _against(
    said: ServedColumn, values: pd.Series[Any], reference: pd.Series[Any], key: str, *, is_number: bool
) -> ServedColumn:
    both = pd.concat([reference, values], ignore_index=True)
    groups = np.repeat(np.array([0, 1]), [len(reference), len(values)])
    effective = np.array([said.worth * len(reference) / (said.worth + len(reference))])
    if is_number:
        windows = ks_windows(both.to_numpy(), groups, 2)
        score = kolmogorov_score(windows, effective)
        medians: tuple[float | None, ...] = (float(values.median()), float(reference.median()))
    else:
        codes, names = pd.factorize(both)
        windows = chi_square_windows(codes.astype(np.int64), groups, 2, len(names))
        score, medians = chi_square_score(windows, effective), (None, None)
    return ServedColumn(
        said.column, JUDGED, *_counts(said), key, _effect(windows), _p_value(score), medians[0], medians[1]
    )  # fmt: skip


def _effect(windows: Windows) -> float:
    return float(windows.effect[-1])


def _p_value(score: NDArray[np.float64]) -> float:
    from scipy.special import ndtr

    return float(ndtr(-score[-1]))


def _cells(values: pd.Series[Any], *, is_number: bool) -> pd.Series[Any]:
    if is_number:
        return pd.to_numeric(values, errors="coerce").astype(float).dropna()
    return values.dropna().astype(str)


def _some(rows: Rows) -> Rows:
    found: Rows = rows.iloc[:: max(1, -(-len(rows) // MOST))]
    return found

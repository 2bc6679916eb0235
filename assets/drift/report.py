"""Evidently's HTML reports: one of a sample of the fleet, and one for each of the segments that drifted most."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from assets.drift.bucket import compared_features
from assets.drift.look import Look
from assets.drift.summary import worst_segments
from assets.features.publish import FeatureSet
from assets.features.rebuild import committed_files
from assets.partitions import bucket_of
from assets.raw.parse import KEY, PERIOD
from assets.raw.recipe import Recipe
from resources.files import folders_in, remove
from resources.lake import Lake

if TYPE_CHECKING:
    from evidently import Dataset

FOLDER = "reports/drift"
SAMPLED_BUCKETS, SAMPLED_ROWS = 4, 20_000
LOOKS_KEPT = 8  # whose reports stay: some megabytes each
NUMBERS, CATEGORIES = "ks", "chisquare"


def publish_reports(lake: Lake, features: FeatureSet, rows: pa.Table, look: Look, worst: int) -> dict[str, str]:
    """Writes the reports of a look that judged something, and gives their URIs by segment (`fleet`: the sample)."""
    judged = rows.filter(pc.is_valid(rows["p_value"]))
    if not len(judged) or not worst:
        return {}
    shown = worst_segments(judged, worst).query("alarmed")["segment"].tolist()
    files, found = committed_files(lake, features), {}
    some = sorted(files)[:: max(1, len(files) // SAMPLED_BUCKETS)][:SAMPLED_BUCKETS]
    sample = pa.concat_tables([_rows(files[bucket], features.recipe) for bucket in some])
    reports = {"fleet": sample}
    for key in shown:
        own = _rows(files[bucket_of(key, features.buckets)], features.recipe)
        reports[key] = own.filter(pc.equal(own[KEY], key))
    for name, own in reports.items():
        reference, current = _parts(own, judged, features.recipe)
        if len(reference) and len(current):
            file = f"{FOLDER}/{look.version:06d}/{_file_name(name)}.html"
            found[name] = lake.write_file(file, _html(reference, current, features.recipe))
    for folder in sorted(folders_in(lake.path(FOLDER)))[:-LOOKS_KEPT]:
        remove(lake.path(f"{FOLDER}/{folder}"))
    return found


def _rows(files: tuple[str, ...], recipe: Recipe) -> pa.Table:
    import pyarrow.parquet as pq

    from resources.files import filesystem

    columns = list(dict.fromkeys([KEY, PERIOD, recipe.label, *compared_features(recipe)]))
    parts = []
    for file in files:
        system, path = filesystem(file)
        parts.append(pq.ParquetFile(system.open_input_file(path)).read(columns=columns))
    return pa.concat_tables(parts)


def _parts(rows: pa.Table, judged: pa.Table, recipe: Recipe) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reference and current rows of some segments, as they were judged; a sample of many."""
    frame = rows.filter(pc.is_valid(rows[recipe.label])).to_pandas()
    spans = judged.select(["segment", "trained", "start", "judged_through"]).to_pandas().set_index("segment")
    frame = frame.join(spans, on=KEY, how="inner")
    before = frame[PERIOD] <= frame["trained"]
    current = (frame[PERIOD] > frame["start"]) & (frame[PERIOD] <= frame["judged_through"])
    columns = [recipe.label, *compared_features(recipe)]
    return _sampled(frame.loc[before, columns]), _sampled(frame.loc[current, columns])


def _sampled(part: pd.DataFrame) -> pd.DataFrame:
    return part.sample(min(len(part), SAMPLED_ROWS), random_state=0).reset_index(drop=True)


def _html(reference: pd.DataFrame, current: pd.DataFrame, recipe: Recipe) -> bytes:
    """Evidently's data drift preset, by the statistics that the verdict is made of."""
    from evidently import Report
    from evidently.presets import DataDriftPreset

    known = [name for name in reference.columns if reference[name].notna().any() and current[name].notna().any()]
    preset = DataDriftPreset(columns=known, num_method=NUMBERS, cat_method=CATEGORIES)
    run = Report([preset]).run(_dataset(current[known], recipe), _dataset(reference[known], recipe))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "report.html"
        run.save_html(str(file))
        return file.read_bytes()


def _dataset(frame: pd.DataFrame, recipe: Recipe) -> Dataset:
    from evidently import DataDefinition, Dataset

    text = [name for name in frame.columns if name in recipe.text_features]
    numbers = [name for name in frame.columns if name not in text]
    as_said = frame.astype({**dict.fromkeys(numbers, "float64"), **dict.fromkeys(text, "object")})
    return Dataset.from_pandas(as_said, DataDefinition(numerical_columns=numbers, categorical_columns=text))


def _file_name(segment: str) -> str:
    """A name that any file system takes; a digest keeps names that look alike apart."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in segment)[:60]
    return plain if plain == segment else f"{plain}-{hashlib.sha256(segment.encode()).hexdigest()[:8]}"

"""A champion written to a folder of its own: an MLflow model that needs no lake, and boosters in LightGBM's format."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from assets.champions.export_tables import (
    write_fleet_models,
    write_listing,
    write_models,
    write_question,
    write_rows,
)
from assets.champions.lake_view import LakeView
from assets.champions.served_fleet import ServedFleet
from assets.champions.served_listing import Published
from assets.champions.served_model import pinned, save_model
from assets.champions.serving import exported
from assets.champions.serving.exported import KEY
from assets.champions.serving.question import Place
from assets.champions.serving.refusal import LostModelsError, NotServableError
from assets.evaluation.incumbent import Champion
from assets.models.blend import ALL_BASELINE
from assets.models.line import FLEET_MODEL, SEGMENT_MODEL
from assets.models.store import TRAINING
from resources.lake import Lake
from resources.problems import InputError, Problem, nearest_segments

ENTRY = Path(__file__).with_name("exported_entry.py")
NEEDED = ("mlflow", "lightgbm", "numpy", "pandas", "pyarrow")
# all that answering needs of this project; it imports nothing but `NEEDED` and Python itself
CODE = (
    "assets/__init__.py", "assets/partitions.py", "assets/raw/__init__.py", "assets/raw/calendar.py",
    "assets/models/__init__.py", "assets/models/packing.py", "assets/models/blend.py", "assets/models/fit.py",
    "assets/models/line.py", "assets/models/error_sums.py", "assets/models/quantiles.py",
    "assets/models/intermittent.py", "assets/champions/__init__.py", "assets/champions/serving",
    "resources/__init__.py", "resources/problems.py",
)  # fmt: skip
BOOSTERS = "boosters"


@dataclass(frozen=True)
class Export:
    """What was written."""

    folder: Path
    segments: int
    models: int
    rows: int
    texts: int


def export_fleet(
    lake: Lake, champion: Champion | None, out: Path, segments: Sequence[str] = (), *, text: bool = False
) -> Export:
    """Writes the champion, or some segments of it, to a folder; with `text` also each booster in LightGBM's format.

    The folder is there as a whole or not at all.

    Raises:
        InputError: no champion, a segment that it does not know, a folder that is in use, or models that are lost.
    """
    if champion is None:
        raise InputError([Problem("the fleet", "has no champion yet", "run the weekly cycle: fleet run")])
    _refuse_in_use(out)
    published = Published(lake.root, champion.tags["published"], champion.tags[TRAINING])
    view = ServedFleet(published).view()
    keys = _asked(view, segments)
    try:
        with _beside(out) as folder:
            return replace(_write(view, lake, champion.version, keys, folder, text), folder=out)
    except (LostModelsError, NotServableError) as error:
        what = f"cannot be exported: {error}"
        raise InputError([Problem(f"champion {champion.version}", what, "run the weekly cycle: fleet run")]) from None


def _refuse_in_use(out: Path) -> None:
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError([Problem(f"--out {out}", "is there and not an empty folder", "name one that is not there")])


@contextmanager
def _beside(out: Path) -> Iterator[Path]:
    """A new folder that becomes `out` when the `with` block ends well, and is gone when it does not."""
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}-{uuid.uuid4().hex[:8]}"
    try:
        yield folder
        folder.rename(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _asked(view: LakeView, segments: Sequence[str]) -> list[str]:
    known = view.segments.table[KEY].to_pylist()
    if not segments:
        return known
    places = view.segments.keys.places(list(segments))
    problems = []
    for segment in [segment for segment, place in zip(segments, places, strict=True) if place is None]:
        remedy = nearest_segments(segment, known)
        problems.append(Problem(f"--segments {segment}", "is no segment of the champion", remedy))
    if problems:
        raise InputError(problems)
    return sorted(set(segments))


def _write(view: LakeView, lake: Lake, version: int, keys: Sequence[str], folder: Path, text: bool) -> Export:
    places = [_as_it_answers(view, place) for place in view.places(keys)]
    with _code() as code:
        save_model(folder, ENTRY, pinned(NEEDED), view.levels, code)
    inside = folder / exported.FOLDER
    inside.mkdir()
    boosters = folder / BOOSTERS if text else None
    models = write_models(lake, [place for place in places if SEGMENT_MODEL in place.weights], inside, boosters)
    groups, rows = write_rows(view, places, inside / exported.ROWS)
    write_fleet_models(view, lake, places, inside / exported.FLEETS)
    write_listing(view, places, models, groups, inside / exported.LISTING)
    write_question(view, version, places, inside / exported.FLEET)
    return Export(folder, len(places), len(models), rows, len(models) if text else 0)


def _as_it_answers(view: LakeView, place: Place) -> Place:
    """The baseline instead of models that cannot answer: their training is gone, or there is no fleet-wide model."""
    if place.training not in view.question.inputs:
        return replace(place, weights=ALL_BASELINE)
    if FLEET_MODEL in place.weights and view.fleet_model(place.training or "") is None:
        return replace(place, weights={name: w for name, w in place.weights.items() if name != FLEET_MODEL})
    return place


@contextmanager
def _code() -> Iterator[list[str]]:
    """Folders with the code that an export runs by, and no other."""
    import tempfile

    with tempfile.TemporaryDirectory() as scratch:
        for name in CODE:
            package, _, rest = name.partition("/")
            source, target = Path(str(files(package))) / rest, Path(scratch) / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copyfile(source, target)
        yield [str(path) for path in sorted(Path(scratch).iterdir())]

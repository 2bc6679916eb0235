"""An export needs nothing of this project, and answers as the champion that it was made of."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from assets.champions import export as exporting
from assets.champions.export import export_fleet
from assets.champions.export_tables import file_name
from assets.champions.served_fleet import ServedFleet
from assets.partitions import partition_key
from resources.problems import InputError
from resources.settings import CONFIG_VARIABLE
from tests.cycle import flats
from tests.hostile import HOSTILE
from tests.lakes import loaded
from tests.served import KEY, Served, champion_model

ASKED = [*KEY, "day"]
# a process that cannot import this project, Spark, Dagster or Delta Lake, and finds its code in the export alone
pytestmark = pytest.mark.slow
CLEAN = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("pyspark", "dagster", "deltalake", "dagster_mlflow", "orchestration", "pydantic_settings"):
            raise ImportError(f"{name} is blocked")

sys.meta_path[:] = [Blocked(), *(f for f in sys.meta_path if "editable" not in str(f).lower())]
import mlflow, pandas as pd
folder, asked, out = sys.argv[1:]
model = mlflow.pyfunc.load_model(folder)
model.predict(pd.read_parquet(asked)).to_parquet(out)
import assets
assert assets.__file__.startswith(folder), assets.__file__
ours = sorted(name for name in sys.modules if name.split(".")[0] in ("assets", "resources", "orchestration"))
assert all(sys.modules[name].__file__.startswith(folder) for name in ours), ours
"""


def answered_elsewhere(folder: Path, rows: pd.DataFrame, scratch: Path) -> pd.DataFrame:
    """What the export says in a process of its own, far from here."""
    scratch.mkdir(exist_ok=True)
    asked, out = scratch / "asked.parquet", scratch / "out.parquet"
    rows.to_parquet(asked)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-I", "-c", CLEAN, str(folder), str(asked), str(out)],
        cwd=scratch,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return pd.read_parquet(out)


def same(found: pd.DataFrame, wanted: pd.DataFrame) -> None:
    np.testing.assert_allclose(found["forecast"], wanted["forecast"], rtol=1e-9)
    assert found["model"].tolist() == wanted["model"].tolist()


@pytest.fixture(scope="module")
def exported(served: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "whole"
    export_fleet(served.lake, served.champion, folder, text=True)
    return folder


def test_an_export_answers_all_segments_without_the_lake(exported: Path, served: Served, tmp_path: Path) -> None:
    moved = served.home.folder.with_name("moved away")
    served.home.folder.rename(moved)
    try:
        found = answered_elsewhere(exported, served.forecasts[ASKED], tmp_path / "scratch")
    finally:
        moved.rename(served.home.folder)
    same(found, served.forecasts)
    assert set(found["version"]) == {served.champion.version}
    assert set(found["model"]) == {"segment", "fleet", "baseline"}


def test_what_a_row_brings_counts_as_it_does_in_the_lake(exported: Path, served: Served, tmp_path: Path) -> None:
    import mlflow

    from assets.champions.served_listing import Published
    from assets.champions.serving.answer import answered

    asked = served.forecasts[ASKED].assign(price=2.5, weather="rain")
    tags = served.champion.tags
    fleet = ServedFleet(Published(served.lake.root, tags["published"], tags["training"]))
    wanted = answered(fleet.view(), served.champion.version, asked)
    model = mlflow.pyfunc.load_model(str(exported))
    same(model.predict(asked), wanted)
    with pytest.raises(mlflow.MlflowException, match="row 1, column 'day': '2024-02-01' lies outside"):
        model.predict(asked.head(1).assign(day="2024-02-01"))


def test_rows_that_bring_every_feature_need_no_time(exported: Path, served: Served) -> None:
    import mlflow

    model = mlflow.pyfunc.load_model(str(exported))
    features = served.lake.table("features").arrow().to_pandas()
    recipe = served.made.features.recipe
    wanted = served.forecasts[served.forecasts["model"] == "segment"].head(8)
    rows = wanted[ASKED].merge(features.rename(columns={"__time": "day"}), on=ASKED)[[*KEY, *recipe.features]]
    assert len(rows) == 8
    same(model.predict(rows), wanted)
    with pytest.raises(mlflow.MlflowException, match="column 'sold@lag_4': is missing"):
        model.predict(rows.drop(columns="sold@lag_4"))


def test_chosen_segments_alone_are_exported(served: Served, tmp_path: Path) -> None:
    import mlflow

    keys = [key for key in served.champion.listing["segment"].to_pylist() if key.startswith(("a b|", "é|"))]
    written = export_fleet(served.lake, served.champion, tmp_path / "some", keys)
    assert (written.segments, written.rows) == (2, 8)
    model = mlflow.pyfunc.load_model(str(tmp_path / "some"))
    wanted = served.forecasts[served.forecasts["shop"].isin(["a b", "é"])]
    same(model.predict(wanted[ASKED]), wanted)
    with pytest.raises(mlflow.MlflowException, match="is none of the fleet's"):
        model.predict(served.forecasts[ASKED].head(1))


def test_a_table_without_time_is_exported_too(timeless: Served, tmp_path: Path) -> None:
    export_fleet(timeless.lake, timeless.champion, tmp_path / "flats")
    rows = flats(["plain", "Plain", "a|b", "100%", "007", "tiny"], 4, seed=2).drop(columns="rent")
    wanted = champion_model(timeless).predict(rows)
    assert set(wanted["model"]) == {"segment", "fleet", "baseline"}
    same(answered_elsewhere(tmp_path / "flats", rows, tmp_path / "scratch"), wanted)


def test_boosters_are_written_as_lightgbm_reads_them(exported: Path, served: Served) -> None:
    index = json.loads((exported / "boosters" / "index.json").read_text(encoding="utf-8"))
    listing = served.champion.listing.to_pandas()
    assert set(index) == set(listing[listing["chosen"] == "segment"]["segment"])
    assert len(set(index.values())) == len(index) > 20
    own, x = loaded(served.made, "served"), np.random.default_rng(0).normal(size=(20, len(served.made.recipe.features)))
    for key, name in index.items():
        booster = lgb.Booster(model_file=str(exported / "boosters" / name))
        np.testing.assert_array_equal(booster.predict(x), own[key].predict(x))


def test_names_of_files_are_harmless_and_all_different() -> None:
    keys = [partition_key([name, "1"]) for name in HOSTILE]
    names = [file_name(key) for key in keys]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert len(name) < 100
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.")
        assert not name.startswith(("-", "."))


def test_an_export_says_what_it_needs_and_holds_no_pickle_and_no_more_of_this_project(exported: Path) -> None:
    needed = (exported / "requirements.txt").read_text().splitlines()
    assert {line.split("==")[0] for line in needed} == {"mlflow", "lightgbm", "numpy", "pandas", "pyarrow"}
    names = [path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()]
    assert not [name for name in names if name.endswith((".pkl", ".pickle"))]
    assert not [name for name in names if "spark" in name or "lake" in name or "dagster" in name]


@pytest.mark.parametrize("kind", ["file", "full"])
def test_a_folder_in_use_is_not_touched(served: Served, tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    if kind == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "mine").write_text("mine")
    with pytest.raises(InputError, match="is there and not an empty folder"):
        export_fleet(served.lake, served.champion, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert out.is_file() or [path.name for path in out.iterdir()] == ["mine"]


def test_unknown_segments_are_named_with_those_that_are_like_them(served: Served, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        export_fleet(served.lake, served.champion, tmp_path / "out", ["Kelvn|0", "nothing like it at all"])
    told = str(error.value)
    assert "--segments Kelvn|0: is no segment of the champion -> did you mean 'Kelvin|" in told
    assert "--segments nothing like it at all" in told
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no champion yet"):
        export_fleet(served.lake, None, tmp_path / "out")


def test_what_dies_on_the_way_leaves_nothing(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").mkdir()

    def die(*_: Any) -> None:
        raise RuntimeError("died")

    with monkeypatch.context() as patched:
        patched.setattr(exporting, "write_question", die)
        with pytest.raises(RuntimeError, match="died"):
            export_fleet(served.lake, served.champion, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").iterdir())
    export_fleet(served.lake, served.champion, tmp_path / "out")
    assert (tmp_path / "out" / "MLmodel").is_file()


def test_a_lost_model_is_not_exported(own_served: Served, tmp_path: Path) -> None:
    listing = own_served.champion.listing.to_pandas()
    row = listing[listing["chosen"] == "segment"].iloc[0]
    Path(own_served.lake.path(row["shard"])).write_bytes(b"")
    with pytest.raises(InputError, match=row["shard"]):
        export_fleet(own_served.lake, own_served.champion, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def fleet_export(served: Served, *arguments: str | Path) -> Result:
    from orchestration.cli import app

    config = ["--config", str(served.home.folder / "fleet.yaml")]
    return CliRunner().invoke(app, ["export", *config, *map(str, arguments)])


def test_the_command_exports_or_says_why_not(served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, "")  # put back afterwards: the command sets it
    key = next(key for key in served.champion.listing["segment"].to_pylist() if key.startswith("a b|"))
    done = fleet_export(served, "--out", tmp_path / "one", "--segments", key, "--text")
    assert done.exit_code == 0, done.stderr
    assert "1 segments" in done.stdout
    assert (tmp_path / "one" / "MLmodel").is_file()
    assert (tmp_path / "one" / "boosters" / "index.json").is_file()
    again = fleet_export(served, "--out", tmp_path / "one")
    assert again.exit_code == 2
    assert "is there and not an empty folder" in again.stderr
    unknown = fleet_export(served, "--out", tmp_path / "two", "--segments", "a c|0")
    assert unknown.exit_code == 2
    assert "did you mean" in unknown.stderr
    assert not (tmp_path / "two").exists()

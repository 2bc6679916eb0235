"""The benchmark of drift takes an hour: what was measured is kept as it comes, and a run that was cut goes on."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from benchmarks.drift import Row, measured


def row(folder: Path, name: str) -> Row:
    """Measures once only; what is named `broken` cannot be measured while there is no file `mended`."""
    if name == "broken" and not (folder / "mended").exists():
        raise OSError("cut")
    (folder / name).touch(exist_ok=False)
    return {"table": name}


def test_a_run_that_was_cut_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "drift.json"
    tasks = {name: partial(row, tmp_path, name) for name in ("one", "two")}
    assert measured({"one": tasks["one"]}, file) == {"one": {"table": "one"}}
    with pytest.raises(OSError, match="cut"):
        measured({"one": tasks["one"], "broken": partial(row, tmp_path, "broken")}, file)
    assert json.loads(file.read_text()) == {"one": {"table": "one"}}
    (tmp_path / "mended").touch()
    found = measured({**tasks, "broken": partial(row, tmp_path, "broken")}, file)
    assert found == json.loads(file.read_text()) == {name: {"table": name} for name in found}
    assert set(found) == {"one", "two", "broken"}
    assert sorted(line.partition(":")[0] for line in capsys.readouterr().out.splitlines()) == ["broken", "one", "two"]

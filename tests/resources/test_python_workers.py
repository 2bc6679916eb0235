"""Sockets between Spark and its Python workers: their folder, and when there is none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from resources.python_workers import LONGEST_FOLDER, sockets_of_this_machine
from resources.settings import REPOSITORY_ROOT
from resources.spark import Spark

SAYS_ITS_FOLDER = """
from pathlib import Path
from resources.python_workers import sockets_of_this_machine
found = sockets_of_this_machine().get("spark.python.unix.domain.socket.dir", "")
print(found, bool(found) and Path(found).is_dir())
"""


def said_by_a_process(monkeypatch: pytest.MonkeyPatch, temporary: Path) -> list[str]:
    monkeypatch.setenv("TMPDIR", str(temporary))
    command = [sys.executable, "-c", SAYS_ITS_FOLDER]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY_ROOT).stdout.split()


def test_workers_are_spoken_to_over_sockets_of_this_machine(spark: Spark) -> None:
    conf = spark.session().sparkContext.getConf()
    assert conf.get("spark.python.unix.domain.socket.enabled") == "true"
    assert Path(conf.get("spark.python.unix.domain.socket.dir") or "").is_dir()
    assert spark.session().range(1).mapInArrow(lambda batches: batches, "id long").count() == 1


def test_the_folder_goes_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    folder, was_there = said_by_a_process(monkeypatch, Path("/tmp"))
    assert was_there == "True"
    assert not Path(folder).exists()


def test_the_folder_outlives_a_fork_that_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    forked = (
        "import os, sys\nif (child := os.fork()) == 0: sys.exit(0)\nos.waitpid(child, 0)\nprint(Path(found).is_dir())"
    )
    monkeypatch.setenv("TMPDIR", "/tmp")
    command = [sys.executable, "-c", SAYS_ITS_FOLDER + forked]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY_ROOT).stdout.split()
    assert said[1:] == ["True", "True"]


def test_a_folder_that_somebody_cleaned_away_is_there_for_the_next_session() -> None:
    folder = Path(sockets_of_this_machine()["spark.python.unix.domain.socket.dir"])
    shutil.move(folder, moved := folder.with_name(f"{folder.name}_moved"))
    assert Path(sockets_of_this_machine()["spark.python.unix.domain.socket.dir"]).is_dir()
    folder.rmdir()
    shutil.move(moved, folder)


@pytest.mark.parametrize("name", ["d" * LONGEST_FOLDER, "ü"])
def test_no_socket_where_its_path_would_be_too_long_or_nothing_that_a_jvm_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    deep = tmp_path / name
    deep.mkdir()
    assert said_by_a_process(monkeypatch, deep) == ["False"]


def test_a_jvm_that_another_process_started_keeps_its_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "1")
    assert sockets_of_this_machine() == {}

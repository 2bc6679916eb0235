"""The archive of Spark's classes: found where it is this Java's and this place's, and never in the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from resources import spark_classes
from resources.spark import Spark, java_command
from resources.spark_classes import archive, archive_options


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    archive.cache_clear()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    yield
    archive.cache_clear()


def test_without_an_archive_there_is_no_option() -> None:
    assert archive_options("/usr/bin/java", "17") == ""
    assert "SharedArchiveFile" not in Spark()._jvm()


def test_an_archive_is_of_one_java_and_one_version_of_it(tmp_path: Path) -> None:
    made = archive("/usr/bin/java", "17.0.1")
    assert made.parent.parent == tmp_path
    assert len({made, archive("/usr/bin/java", "17.0.2"), archive("/opt/java", "17.0.1")}) == 3
    made.parent.mkdir()
    made.touch()
    assert f'-XX:SharedArchiveFile="{made}"' in archive_options("/usr/bin/java", "17.0.1")
    assert archive_options("/usr/bin/java", "17.0.2") == ""


def test_what_is_no_archive_is_passed_over_in_silence(tmp_path: Path) -> None:
    broken, java = tmp_path / "broken.jsa", java_command()
    broken.write_bytes(b"nonsense" * 1000)
    options = [f"-XX:SharedArchiveFile={broken}", *spark_classes.SILENT.split()]
    said = subprocess.run([str(java), *options, "-version"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout) == (0, "")
    assert "rror" not in said.stderr

"""References to the environment, and the passwords that must not stand in their place."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.environment import resolved, split_credentials
from resources.mlflow import CREDENTIALS, Mlflow
from resources.problems import InputError
from resources.settings import read_settings
from tests.conftest import MakeFleet

PLAIN = "name: tiny\nsegment: shop\ntime: day\nlabel: sold\n"
SQL = "format: sql, query: select 1}"


def test_references_are_resolved_and_all_that_are_lacking_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_PASSWORD", "se/cret")
    assert resolved("x://u:${DATABASE_PASSWORD}@h", "here") == "x://u:se/cret@h"
    with pytest.raises(InputError) as caught:
        resolved("${NO_A}${NO_B}${NO_A}", "here")
    assert [str(problem) for problem in caught.value.problems] == [
        f"here: ${{NO_{name}}} is not in the environment -> export NO_{name}" for name in "AB"
    ]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("source: {path: 'postgresql://u:s3cret@h/d', " + SQL, "source.path"),
        ("source: {path: 'postgresql://h/d?user=u&password=s3cret', " + SQL, "source.path"),
        ("source: {path: t.csv, options: {fs.s3a.secret.key: s3cret}}", "source.options.fs.s3a.secret.key"),
        ("source: {path: t.csv}\nmlflow: {tracking_uri: 'https://u:s3cret@h'}", "mlflow.tracking_uri"),
        ("source: {path: t.csv}\ntargets: {prod: {mlflow: {tracking_uri: 'https://u:s3cret@h'}}}", "targets.prod.mlflow"),
        ("source: {path: 's3://${KEY}:${SECRET}@bucket/x.csv'}", "source.path"),
    ],
)  # fmt: skip
def test_a_password_in_the_file_is_a_mistake_and_is_not_repeated(tmp_path: Path, line: str, key: str) -> None:
    (tmp_path / "fleet.yaml").write_text(f"{PLAIN}{line}\n")
    with pytest.raises(InputError) as caught:
        read_settings(tmp_path / "fleet.yaml")
    [said] = [str(problem) for problem in caught.value.problems]
    assert key in said
    assert "password" in said
    assert "s3cret" not in said


def test_references_stay_as_they_are_written_but_for_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE_FILES_ARE", "files")
    uri = "https://u:${NO_SUCH_PASSWORD}@h"
    text = f"source: {{path: '${{WHERE_FILES_ARE}}/t.csv'}}\nlake: ${{WHERE_FILES_ARE}}/lake\nmlflow: {{tracking_uri: '{uri}'}}\n"
    (tmp_path / "fleet.yaml").write_text(PLAIN + text)
    settings = read_settings(tmp_path / "fleet.yaml")
    assert settings.source.path == str(tmp_path / "files/t.csv")
    assert settings.lake == str(tmp_path / "files/lake")
    assert settings.tracking_uri == uri
    with pytest.raises(InputError, match="NO_SUCH_PASSWORD"):
        Mlflow(tracking_uri=uri, experiment="tiny").aliased("champion")


def test_mlflow_gets_the_password_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in CREDENTIALS:
        monkeypatch.setenv(name, "of another")
    monkeypatch.setenv("MLFLOW_PASSWORD", quote("s3/cret", safe=""))
    mlflow = Mlflow(tracking_uri="https://ann:${MLFLOW_PASSWORD}@h:5000/x", experiment="tiny")
    assert mlflow.address() == "https://h:5000/x"
    assert [os.environ[name] for name in CREDENTIALS] == ["ann", "s3/cret"]


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_credentials_come_out_of_a_url_as_they_went_in(user: str, password: str) -> None:
    safe = [text.encode("utf-8", "ignore").decode() or "x" for text in (user, password)]
    url = f"https://{quote(safe[0], safe='')}:{quote(safe[1], safe='')}@host:80/path?q=1"
    assert split_credentials(url) == ("https://host:80/path?q=1", *safe)
    assert split_credentials("https://host/a@b") == ("https://host/a@b", None, None)


def test_a_readers_option_is_resolved_when_it_is_read(make_fleet: MakeFleet, monkeypatch: pytest.MonkeyPatch) -> None:
    from assets.raw.source import find_files, text_options

    fleet = make_fleet(
        "shop,day,sold\n", source={"path": "table.csv", "options": {"nullValue": "${NOTHING}", "sep": ","}}
    )
    assert fleet.settings.source.options["nullValue"] == "${NOTHING}"
    files = find_files(fleet.settings)
    with pytest.raises(InputError, match=r"source.options.nullValue: \$\{NOTHING\} is not in the environment"):
        text_options(files, fleet.settings)
    monkeypatch.setenv("NOTHING", "-")
    assert text_options(files, fleet.settings)["nullValue"] == "-"

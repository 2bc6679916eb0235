"""`fleet init`: a folder that is ready to edit, from our template or the user's, and never over what is there."""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from setuptools.glob import glob
from typer.testing import CliRunner, Result

from orchestration.new_folder import TEMPLATE
from resources.settings import REPOSITORY_ROOT, read_settings


def init(*arguments: str | Path) -> Result:
    from orchestration.cli import app

    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_new_folder_is_ready_to_edit(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "9 shops & more"
    said = init(folder)
    assert said.exit_code == 0, said.stderr
    assert files(folder) == {"fleet.yaml", "README.md", ".gitignore", ".github/workflows/fleet.yml"}
    for file in files(folder):
        assert file in said.stderr.replace("\n", "")
    settings = read_settings(folder / "fleet.yaml")
    assert settings.name == "fleet_9_shops_more"
    assert settings.source.path == str(folder / "data/table.parquet")
    assert "# fleet_9_shops_more" in (folder / "README.md").read_text()


def test_what_is_commented_out_is_valid_too(tmp_path: Path) -> None:
    init(tmp_path / "shops")
    file = tmp_path / "shops" / "fleet.yaml"
    optional = ("# frequency:", "# horizon:", "# features:", "# contract:", "# schedule:", "# targets:", "#  ")
    lines = [line[2:] if line.startswith(optional) else line for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines))
    settings = read_settings(file)
    assert (settings.frequency, settings.horizon, settings.schedule.cron) == ("D", 28, "0 3 * * 1")
    assert settings.features.past_only == ["visitors"]
    assert list(settings.contract.columns) == ["sales", "shop"]


def test_the_workflow_validates(tmp_path: Path) -> None:
    init(tmp_path / "shops")
    workflow = yaml.safe_load((tmp_path / "shops/.github/workflows/fleet.yml").read_text())
    steps = workflow["jobs"]["validate"]["steps"]
    assert [step["run"] for step in steps if "run" in step][-1] == "fleet validate"


def test_git_passes_over_what_runs_make_and_nothing_else(tmp_path: Path) -> None:
    init(tmp_path / "shops")
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path / "shops", check=True)
    asked = ["data/lake/raw/a.parquet", ".dagster/storage", "data/table.parquet", "fleet.yaml"]
    said = subprocess.run(
        ["git", "check-ignore", *asked], cwd=tmp_path / "shops", capture_output=True, text=True, check=False
    )
    assert said.stdout.split() == asked[:2]


def test_an_empty_folder_may_be_there(tmp_path: Path) -> None:
    (tmp_path / "shops").mkdir()
    assert init(tmp_path / "shops").exit_code == 0
    assert (tmp_path / "shops" / "fleet.yaml").is_file()


@pytest.mark.parametrize("there", ["shops/.hidden", "shops"])
def test_what_is_there_stays(tmp_path: Path, there: str) -> None:
    (tmp_path / there).parent.mkdir(exist_ok=True)
    (tmp_path / there).write_text("mine")
    said = init(tmp_path / "shops")
    assert said.exit_code == 2
    assert "is there already and not empty" in " ".join(said.stderr.split())
    assert files(tmp_path) == {there}
    assert (tmp_path / there).read_text() == "mine"


def test_a_template_of_ones_own(tmp_path: Path) -> None:
    template = tmp_path / "template"
    (template / "{{ name }}" / ".git").mkdir(parents=True)
    (template / "{{ name }}" / "{{ name }}.yaml.jinja").write_text("name: {{ name }}\nquoted: '<&>'\n")
    (template / "{{ name }}" / ".git" / "config").write_text("of the template")
    (template / "as it is.txt").write_bytes(b"{{ name }}\xff\r\n")
    script = template / "run.sh.jinja"
    script.write_text("#!/bin/sh\necho {{ name }}\n")
    script.chmod(0o755)
    said = init(tmp_path / "shops", "--template", template)
    assert said.exit_code == 0, said.stderr
    assert files(tmp_path / "shops") == {"shops/shops.yaml", "as it is.txt", "run.sh"}
    assert (tmp_path / "shops/shops/shops.yaml").read_text() == "name: shops\nquoted: '<&>'\n"
    assert (tmp_path / "shops/as it is.txt").read_bytes() == b"{{ name }}\xff\r\n"
    assert subprocess.run([tmp_path / "shops/run.sh"], capture_output=True, check=True).stdout == b"shops\n"


@pytest.mark.parametrize(
    ("file", "content", "expected"),
    [
        ("a.jinja", "{{ nam }}", "'nam' is undefined"),
        ("a.jinja", "{% if %}", "cannot be rendered"),
        ("{{ name", "", "cannot be rendered"),
        ("a.jinja", b"\xff", "cannot be rendered"),
        ("good.txt", "a", "would become good.txt"),
        (None, "", "is no folder with files in it"),
    ],
)
def test_a_template_that_cannot_be_used_leaves_nothing(
    tmp_path: Path, file: str | None, content: str | bytes, expected: str
) -> None:
    template = tmp_path / "template"
    if file:
        template.mkdir()
        (template / "good.txt.jinja").write_text("good")
        (template / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    said = init(tmp_path / "shops", "--template", template)
    assert said.exit_code == 2, said.stdout
    assert expected in " ".join(said.stderr.split())
    assert not (tmp_path / "shops").exists()


def test_the_template_ships_with_the_package() -> None:
    project = tomllib.loads((REPOSITORY_ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    data = project["tool"]["setuptools"]["package-data"]
    shipped = {
        Path(path)
        for pattern in data["orchestration"]
        for path in glob(str(REPOSITORY_ROOT / "orchestration" / pattern), recursive=True)
    }
    template = {path for path in TEMPLATE.rglob("*") if path.is_file()}
    assert template
    assert template <= shipped

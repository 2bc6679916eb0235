"""CI's files: thin, of one mind, and each step of a pull request does its work in a clean clone."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from resources.settings import REPOSITORY_ROOT
from tests.cycle import minimal, sales
from tests.proof.breaks import BREAKS
from tests.proof.prove import clone_to, environment_of

WORKFLOWS = sorted((REPOSITORY_ROOT / ".github/workflows").glob("*.yml"))
PULL_REQUEST = REPOSITORY_ROOT / ".github/workflows/pull-request.yml"
# the advisory service is on the network, which a machine that tests need not have
NEEDS_A_NETWORK = {"audit"}
# these are the suite itself: here they only collect, of a few files
SUITES = {"test", "test-slow"}
SOME_OF_EACH_SUITE = "tests/resources tests/orchestration/test_check.py tests/orchestration/test_workflows.py"


def steps_of(file: Path) -> list[str]:
    document = yaml.safe_load(file.read_text())
    return [step["run"] for job in document["jobs"].values() for step in job["steps"] if "run" in step]


def scripts_in(value: Any) -> Iterator[str]:
    """The commands of a GitLab or CircleCI file, wherever they stand."""
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("script", "run"):
                yield from [item] if isinstance(item, str) else item
            elif key != "before_script":
                yield from scripts_in(item)
    elif isinstance(value, list):
        for item in value:
            yield from scripts_in(item)


def targets_of(commands: list[str]) -> list[str]:
    """The make targets that commands call; anything else than one call of make is a mistake."""
    found = []
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "make", command
        words = words[2:] if words[0] == "-C" else words
        found += [word for word in words if "=" not in word]
    return found


def phony() -> set[str]:
    return set(re.search(r"^\.PHONY:((?:.*\\\n)*.*)$", (REPOSITORY_ROOT / "Makefile").read_text(), re.M)[1].split())  # type: ignore[index]


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.stem)
def test_every_step_of_a_workflow_is_a_target_of_make(file: Path) -> None:
    assert set(targets_of(steps_of(file))) <= phony()
    assert "${{" not in "".join(steps_of(file)), "an expression in a script is a hole"


def test_all_three_services_call_the_same_targets_for_a_change() -> None:
    github = {
        target
        for name in ("pull-request", "main")
        for target in targets_of(steps_of(PULL_REQUEST.with_name(f"{name}.yml")))
    }
    of_github_only = {"comment"}
    for file in (".gitlab-ci.yml", ".circleci/config.yml"):
        found = [
            each for each in scripts_in(yaml.safe_load((REPOSITORY_ROOT / file).read_text())) if "apt-get" not in each
        ]
        assert set(targets_of(found)) == github - of_github_only, file


def test_every_break_of_the_proof_can_still_be_made_and_has_a_step_of_its_own() -> None:
    steps = set(targets_of(steps_of(PULL_REQUEST)))
    for made in BREAKS:
        text = (REPOSITORY_ROOT / made.file).read_text()
        assert text.count(made.old) == 1, made.name
        assert made.step[0] in steps, made.name
    assert len({made.name for made in BREAKS}) == 10


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone with a small fleet of its own, for the targets that take a CONFIG."""
    made = clone_to(tmp_path_factory.mktemp("clean") / "clone")
    (made / "small").mkdir()
    sales(3, 60).to_parquet(made / "small/table.parquet", index=False)
    (made / "small/fleet.yaml").write_text(yaml.safe_dump(minimal()))
    return made


def test_what_is_built_is_what_is_committed_and_is_refused_when_it_was_changed(clone: Path) -> None:
    def make(target: str) -> int:
        return subprocess.run(["make", target], cwd=clone, capture_output=True, check=False).returncode

    assert (make("artifact"), make("unpack")) == (0, 0)
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=clone, capture_output=True, text=True, check=True).stdout
    assert (clone / "build/release/COMMIT").read_text().strip() == head.strip()
    assert (clone / "build/release/requirements.lock").read_bytes() == (clone / "requirements.lock").read_bytes()
    with (clone / "build/fleet.tar.gz").open("ab") as file:
        file.write(b"\0")
    assert make("unpack") != 0


@pytest.mark.slow
@pytest.mark.proof
@pytest.mark.parametrize(
    "target", [each for each in dict.fromkeys(targets_of(steps_of(PULL_REQUEST))) if each not in NEEDS_A_NETWORK]
)
def test_each_step_of_a_pull_request_runs_in_a_clean_clone(clone: Path, target: str) -> None:
    fleet = ["CONFIG=small/fleet.yaml", "TABLE=small/table.parquet"] if target != "preview" else ["BASE=HEAD"]
    collected = [f"TESTS=--collect-only -q {SOME_OF_EACH_SUITE}", "PYTEST=$(BIN)/pytest"] if target in SUITES else []
    done = subprocess.run(
        ["make", target, *fleet, *collected], cwd=clone, env=environment_of(clone),
        capture_output=True, text=True, timeout=550, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    if target == "preview":
        assert "No setting changes." in (clone / "build/preview.md").read_text()

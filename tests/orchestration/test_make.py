"""Setting up says what a machine lacks and how to install it, and does nothing when nothing has changed.

The script runs in a copy with a PATH of its own, whose programs are the real ones or stand-ins that say they
were called.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
JAVA_COMMAND = "sudo apt-get install -y openjdk-17-jre-headless"
VENV_COMMAND = "sudo apt-get install -y python3-venv"
PTH = "dagster_module_name.pth"
SITE = ".venv/lib/python3.11/site-packages"
TOOLS = ["bash", "cat", "cksum", "cp", "dirname", "head", "mkdir", "rm", "sed"]


def program(path: Path, script: str) -> None:
    """A shell script as a program."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def java(path: Path, version: str = "17.0.15", *, lacks_module: bool = False) -> None:
    """A Java that knows its version, and whether it has the module Spark needs."""
    program(
        path,
        f"""
        if [[ $1 == --add-modules ]] && {str(lacks_module).lower()}; then exit 1; fi
        echo 'openjdk version "{version}" 2025-04-15' >&2
        """,
    )


def python(path: Path, *, lacks: str = "nothing", version: str | None = None) -> None:
    """The Python of these tests, but for a module or the version it says it is."""
    too_old = f'if [[ $1 == --version ]]; then echo "Python {version}"; exit 0; fi; exit 1'
    program(
        path,
        f"""
        if [[ $2 == *{lacks}* ]]; then exit 1; fi
        {too_old if version else f'exec {sys.executable} "$@"'}
        """,
    )


@dataclass(frozen=True)
class Machine:
    """A checkout, and the programs of the machine it is on."""

    checkout: Path
    programs: Path

    def set_up(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.checkout / "deploy/setup.sh"), *arguments],
            env={"PATH": str(self.programs), "HOME": str(self.checkout), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def calls_of_uv(self) -> list[str]:
        """What uv was asked for since the last time."""
        log = self.programs / "uv.log"
        calls = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return [" ".join(call.split()[:2]) for call in calls]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A checkout on a machine that lacks nothing, where uv only makes the interpreter."""
    checkout, programs = tmp_path / "checkout", tmp_path / "bin"
    (checkout / "deploy").mkdir(parents=True)
    for name in ("setup.sh", PTH):
        shutil.copy(REPOSITORY / "deploy" / name, checkout / "deploy" / name)
    for name in ("pyproject.toml", "requirements.lock"):
        (checkout / name).write_text("# as committed\n")
    programs.mkdir()
    for tool in TOOLS:
        found = shutil.which(tool)
        assert found, tool
        (programs / tool).symlink_to(found)
    java(programs / "java")
    python(programs / "python3")
    program(
        programs / "uv",
        f"""
        echo "$@" >>{programs}/uv.log
        if [[ $1 == venv ]]; then mkdir -p .venv/bin {SITE}; cat {programs}/python3 >.venv/bin/python; fi
        """
        + f"if [[ $1 == venv ]]; then {shutil.which('chmod')} +x .venv/bin/python; fi",
    )
    return Machine(checkout, programs)


def test_without_java_it_says_how_to_install_it(machine: Machine) -> None:
    (machine.programs / "java").unlink()
    done = machine.set_up()
    assert done.returncode != 0
    assert "no java on the PATH" in done.stderr
    assert done.stderr.rstrip().endswith(JAVA_COMMAND)
    assert machine.calls_of_uv() == []


@pytest.mark.parametrize("version", ["11.0.2", "1.8.0_402", "16"])
def test_java_must_be_17(machine: Machine, version: str) -> None:
    java(machine.programs / "java", version)
    done = machine.set_up()
    assert done.returncode != 0
    assert "Java 17 or later" in done.stderr
    assert JAVA_COMMAND in done.stderr


@pytest.mark.parametrize("version", ["17.0.15", "17", "21.0.1", "25-ea"])
def test_java_17_and_later_will_do(machine: Machine, version: str) -> None:
    java(machine.programs / "java", version)
    done = machine.set_up()
    assert done.returncode == 0, done.stderr


def test_java_needs_the_module_that_spark_uses(machine: Machine) -> None:
    java(machine.programs / "java", lacks_module=True)
    done = machine.set_up()
    assert done.returncode != 0
    assert "jdk.incubator.vector" in done.stderr


def test_java_home_counts(machine: Machine, tmp_path: Path) -> None:
    (machine.programs / "java").unlink()
    java(tmp_path / "jdk/bin/java")
    done = machine.set_up(JAVA_HOME=str(tmp_path / "jdk"))
    assert done.returncode == 0, done.stderr


def test_java_home_wins_over_the_path_as_it_does_for_spark(machine: Machine, tmp_path: Path) -> None:
    done = machine.set_up(JAVA_HOME=str(tmp_path / "nothing here"))
    assert done.returncode != 0
    assert "JAVA_HOME is" in done.stderr


def test_a_python_without_ensurepip_needs_a_package(machine: Machine) -> None:
    (machine.programs / "uv").unlink()
    python(machine.programs / "python3", lacks="ensurepip")
    done = machine.set_up()
    assert done.returncode != 0
    assert "cannot make a virtual environment" in done.stderr
    assert done.stderr.rstrip().endswith(VENV_COMMAND)


def test_uv_needs_no_ensurepip(machine: Machine) -> None:
    python(machine.programs / "python3", lacks="ensurepip")
    done = machine.set_up()
    assert done.returncode == 0, done.stderr


def test_a_python_that_is_too_old_is_named(machine: Machine) -> None:
    python(machine.programs / "python3", version="3.9.2")
    done = machine.set_up()
    assert done.returncode != 0
    assert "Python 3.11, 3.12 or 3.13 is needed, and python3 is Python 3.9.2" in done.stderr


def test_another_python_can_be_named(machine: Machine) -> None:
    python(machine.programs / "python3", version="3.9.2")
    python(machine.programs / "python3.12")
    done = machine.set_up(PYTHON="python3.12")
    assert done.returncode == 0, done.stderr


def test_one_command_installs_all_that_is_missing(machine: Machine) -> None:
    (machine.programs / "java").unlink()
    python(machine.programs / "python3", lacks="libgomp")
    done = machine.set_up()
    assert done.stderr.rstrip().endswith(f"{JAVA_COMMAND} libgomp1")
    assert machine.set_up("--missing").stdout.split() == ["openjdk-17-jre-headless", "libgomp1"]


def test_nothing_is_missing_from_a_machine_that_lacks_nothing(machine: Machine) -> None:
    done = machine.set_up("--missing")
    assert (done.returncode, done.stdout.strip()) == (0, "")
    assert not (machine.checkout / ".venv").exists()


def test_it_sets_up_once_and_again_when_the_lock_changes(machine: Machine) -> None:
    assert machine.set_up().returncode == 0
    assert machine.calls_of_uv() == ["venv --quiet", "pip sync", "pip install"]
    assert (machine.checkout / SITE / PTH).exists()

    assert machine.set_up().stdout == ""
    assert machine.calls_of_uv() == []

    (machine.checkout / "requirements.lock").write_text("# another\n")
    assert machine.set_up().returncode == 0
    assert machine.calls_of_uv() == ["pip sync", "pip install"]


def test_a_moved_checkout_is_set_up_anew(machine: Machine, tmp_path: Path) -> None:
    """The programs in an environment name the folder they were installed in."""
    assert machine.set_up().returncode == 0
    machine.calls_of_uv()
    moved = Machine(machine.checkout.rename(tmp_path / "elsewhere"), machine.programs)
    assert moved.set_up().returncode == 0
    assert machine.calls_of_uv() == ["venv --quiet", "pip sync", "pip install"]


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
@pytest.mark.parametrize("target", ["run", "test", "ui"])
def test_make_stops_where_setting_up_does(machine: Machine, target: str) -> None:
    (machine.programs / "java").unlink()
    (machine.programs / "sh").symlink_to(os.path.realpath("/bin/sh"))
    shutil.copy(REPOSITORY / "Makefile", machine.checkout / "Makefile")
    done = subprocess.run(
        [str(shutil.which("make")), target],
        cwd=machine.checkout,
        env={"PATH": str(machine.programs)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert JAVA_COMMAND in done.stderr

"""`make proof`: each break on a branch of a clean clone, and the pull request's step that catches it, with its message.

    python -m tests.proof.prove [NAME ...]     all ten, or those named; writes build/proof.md

Steps run in the clone with the packages of this checkout's environment, so what is committed is what is proven.
Ends with 1 if a break passes unnoticed, or can no longer be made because the code it changes is gone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from resources.settings import REPOSITORY_ROOT
from tests.proof.breaks import BREAKS, Break

TIME_LIMIT = 1800.0
LONGEST = 220
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Verdict:
    """What became of a break: whether its step failed with the message, which line that was, and seconds."""

    made: Break
    caught: bool
    line: str
    seconds: float


def environment_of(clone: Path) -> dict[str, str]:
    """The environment in which make's targets run a clone's code with the packages that are installed here."""
    here = {"NO_SETUP": "1", "BIN": str(Path(sys.executable).parent), "PYTHONPATH": str(clone)}
    return {**os.environ, **here, "FLEET_TARGET": "", "MYPY_CACHE_DIR": str(REPOSITORY_ROOT / ".mypy_cache")}


def clone_to(folder: Path) -> Path:
    """A clean clone of what is committed."""
    _git(folder.parent, "clone", "--quiet", str(REPOSITORY_ROOT), str(folder))
    return folder


def verdict_of(made: Break, clone: Path) -> Verdict:
    """Breaks the clone on a branch of its own and runs the step."""
    _git(clone, "checkout", "--quiet", "-B", made.name.replace(" ", "-"), "origin/HEAD")
    file = clone / made.file
    text = file.read_text(encoding="utf-8")
    if text.count(made.old) != 1:
        return Verdict(made, False, f"{made.file} has {text.count(made.old)} times what this break changes", 0.0)
    file.write_text(text.replace(made.old, made.new), encoding="utf-8")
    _git(clone, "-c", "user.name=proof", "-c", "user.email=proof@localhost", "commit", "--quiet", "-am", made.what)
    start = time.monotonic()
    done = subprocess.run(
        ["make", *made.step], cwd=clone, env=environment_of(clone), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIME_LIMIT, check=False,
    )  # fmt: skip
    said = [line.strip() for line in COLOURS.sub("", done.stdout).splitlines() if made.said in line]
    line = said[-1] if said else f"exit {done.returncode}: {done.stdout[-LONGEST:]}"
    return Verdict(made, done.returncode != 0 and bool(said), line, time.monotonic() - start)


def as_markdown(verdicts: list[Verdict]) -> str:
    """The table of the proof."""
    rows = [
        f"| {each.made.name} | {each.made.what} (`{each.made.file}`) | `make {' '.join(each.made.step)}` "
        f"| {'✅' if each.caught else '❌ not caught'} | {_cell(each.line)} | {each.seconds:,.0f} s |"
        for each in verdicts
    ]
    return "\n".join(["| break | what changes | step | caught | it says | |", "|---|---|---|---|---|---|", *rows, ""])


def _cell(text: str) -> str:
    plain = text.replace("|", "\\|").replace("\n", " ").replace("`", "'")
    return f"`{plain[:LONGEST]}{' ...' if len(plain) > LONGEST else ''}`"


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, stdout=subprocess.DEVNULL)


def main(names: list[str]) -> int:
    """Proves the named breaks, or all."""
    chosen = [each for each in BREAKS if not names or each.name in names]
    verdicts = []
    with tempfile.TemporaryDirectory(prefix="fleet_proof_") as scratch:
        clone = clone_to(Path(scratch) / "clone")
        for made in chosen:
            verdicts.append(verdict_of(made, clone))
            print(f"{made.name}: {'caught' if verdicts[-1].caught else 'NOT CAUGHT'}: {verdicts[-1].line}", flush=True)
    page = REPOSITORY_ROOT / "build" / "proof.md"
    page.parent.mkdir(exist_ok=True)
    page.write_text(as_markdown(verdicts), encoding="utf-8")
    return 0 if chosen and all(each.caught for each in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""`fleet.yaml` as a document: its values, and the line that each key stands on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from resources.problems import InputError, Problem


class Lines(dict[str, int]):
    """The line of each dotted key; `written` is the key under which a value stands, where a target gave it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: dict[str, str] = {}

    def where(self, key: str, name: str) -> str:
        """Where a key of the file `name` is, for a Problem; where its section is, if it is not written."""
        known = key
        while known and known not in self:
            known = known.rpartition(".")[0]
        if not known:
            return f"{name} {key}"
        return f"{name}:{self[known]} {self.written.get(known, known)}{key[len(known) :]}"


def read_document(file: Path) -> tuple[Any, Lines]:
    """The YAML document and the line of each dotted key.

    Raises:
        InputError: no such file, not readable as YAML, or a key written twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        remedy = "give a YAML file with --config"
        raise InputError([Problem(str(file), f"cannot be read ({error})", remedy)]) from None
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError([Problem(file.name, f"is not YAML: {error}", "mend the line named above")]) from None
    lines = Lines()
    twice: list[Problem] = []
    _walk(node, "", lines, twice, file.name)
    if twice:
        raise InputError(twice)
    return document, lines


def _walk(node: yaml.Node | None, prefix: str, lines: Lines, twice: list[Problem], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            path = f"{prefix}{key.value}"
            line = key.start_mark.line + 1
            if path in lines:
                twice.append(Problem(f"{name}:{line} {path}", "is written twice", "keep one of the two"))
            lines[path] = line
            _walk(value, f"{path}.", lines, twice, name)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[f"{prefix}{number}"] = item.start_mark.line + 1
            _walk(item, f"{prefix}{number}.", lines, twice, name)

"""References such as `${NAME}` to the environment, so that no secret stands in `fleet.yaml`.

Settings keep a reference as it was written, and whoever opens the connection resolves it at that moment: so its value
reaches neither the lake nor the logs, neither Dagster's pages nor MLflow's. Only where folders are (`lake`,
`dagster.home`, files named by `source.path`) is resolved when `fleet.yaml` is read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from resources.problems import InputError, Problem

REFERENCE = re.compile(r"\$\{(\w+)\}")
# user and password of a URL; what is named for a secret
USER_IN_URL = re.compile(r"(?<=://)[^/\s@]+(?=@)")
PASSWORD_IN_URL = re.compile(r"://[^/\s@:]*:([^/\s@]+)@|[?&](?:password|pwd|token|secret)=([^&\s]+)", re.IGNORECASE)
NAMED_FOR_A_SECRET = re.compile(r"passw|pwd|secret|token|credential|access.?key|account.?key", re.IGNORECASE)


def unresolved(text: str) -> list[str]:
    """Names that a text refers to and the environment lacks."""
    return [name for name in dict.fromkeys(REFERENCE.findall(text)) if name not in os.environ]


def resolved(text: str, where: str) -> str:
    """A text with `${NAME}` replaced by what the environment has.

    Raises:
        InputError: names that the environment lacks; all of them.
    """
    if lacking := unresolved(text):
        raise InputError([lacks(name, where) for name in lacking])
    return REFERENCE.sub(lambda found: os.environ[found.group(1)], text)


def lacks(name: str, where: str) -> Problem:
    """The problem that the environment has no such variable."""
    return Problem(where, f"${{{name}}} is not in the environment", f"export {name}")


def strings_of(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document, with its dotted key."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from strings_of(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from strings_of(item, f"{key}.{number}")


def holds_a_secret(key: str, text: str) -> bool:
    """Whether a text of `fleet.yaml` has a password in it that should be a reference."""
    found = [part for match in PASSWORD_IN_URL.finditer(text) for part in match.groups() if part]
    in_options = ".options." in f".{key}" or ".conf." in f".{key}"
    if in_options and NAMED_FOR_A_SECRET.search(key.partition("options.")[2] or key.partition("conf.")[2]):
        found.append(text)
    return any(not REFERENCE.search(part) for part in found)


def without_passwords(text: str) -> str:
    """A text in which URLs have lost their user and password: messages leave the house."""
    return USER_IN_URL.sub("***", text)


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """A URL without its user and password, and these, decoded."""
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url, None, None
    plain = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    user, password = (None if each is None else unquote(each) for each in (parts.username, parts.password))
    return plain, user, password

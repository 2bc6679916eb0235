"""Lets a running webserver, and with it the daemon, load a code location anew."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from resources.environment import resolved, without_passwords
from resources.problems import InputError, Problem

if TYPE_CHECKING:
    from requests.auth import AuthBase

WHERE = "fleet.yaml dagster.webserver"


def reload_location(address: str, location: str) -> None:
    """Asks the webserver by GraphQL to load a code location anew, and waits until it has.

    Raises:
        InputError: it cannot be reached, does not know the location, or cannot load it.
    """
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError, ReloadRepositoryLocationStatus
    from requests.exceptions import RequestException

    parts = urlsplit(resolved(address, WHERE))
    credentials = (parts.username or "", parts.password or "") if parts.username else None
    where = f"webserver {without_passwords(address)}"
    try:
        client = DagsterGraphQLClient(
            parts.hostname or "",
            port_number=parts.port,
            use_https=parts.scheme == "https",
            path_prefix=parts.path.rstrip("/"),
            auth=None if credentials is None else _basic(credentials),
        )
        found = client.reload_repository_location(location)
    except (DagsterGraphQLClientError, RequestException, OSError) as error:
        what = f"cannot be asked to reload ({type(error).__name__})"
        raise InputError([Problem(where, what, "start it, or mend dagster.webserver; then deploy again")]) from None
    if found.status != ReloadRepositoryLocationStatus.SUCCESS:
        what = f"cannot load {location}: {found.failure_type}: {found.message}"
        raise InputError([Problem(where, what, "mend what it says; then deploy again")])


def _basic(credentials: tuple[str, str]) -> AuthBase:
    from requests.auth import HTTPBasicAuth

    return HTTPBasicAuth(*credentials)

"""Messages to the fleet's owner: mail, chat, webhooks, through the URLs of Apprise (https://appriseit.com).

The URLs hold passwords and tokens, in places that differ from service to service, so that no part of them is ever
logged: a receiver is called by its place in the list and its kind of service, and the libraries that send are silent.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from dagster import ConfigurableResource, EnvVar
from pydantic import Field

NOTIFY_VARIABLE = "FLEET_NOTIFY"
# what they say on the way names URLs, headers and tokens
TALKATIVE = ("apprise", "urllib3", "requests", "requests_oauthlib", "oauthlib")
SILENT = logging.CRITICAL + 1
OF_THE_WEB = ("http", "https")  # the addresses of webhooks as some services show them
LONGEST = 3_000
# white space, or a comma before what begins like a URL
BETWEEN_URLS = re.compile(r"\s+|,(?=\s*[A-Za-z][A-Za-z0-9+.-]*://)")
_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class Message:
    """What somebody should know; `is_error` where something failed rather than warns."""

    title: str
    body: str
    is_error: bool = True


@dataclass(frozen=True)
class Receiver:
    """One of the configured URLs; `name` is safe to log."""

    name: str
    url: str


class Notifier(ConfigurableResource):
    """Sends messages to the receivers that FLEET_NOTIFY names; nothing is imported before there is one to send."""

    urls: str = Field("", repr=False, description="Apprise URLs, separated by white space or commas.")

    @classmethod
    def from_environment(cls) -> Notifier:
        """The notifier of FLEET_NOTIFY, which is read when a message is sent; with nobody to tell if it is not set."""
        return cls(urls=EnvVar(NOTIFY_VARIABLE)) if os.environ.get(NOTIFY_VARIABLE) else cls(urls="")

    def receivers(self) -> dict[str, Receiver]:
        """The configured receivers by name."""
        urls = [url.strip(",") for url in BETWEEN_URLS.split(self.urls.strip())]
        named = (
            Receiver(f"receiver {place} ({_service(url)})", url) for place, url in enumerate(filter(None, urls), 1)
        )
        return {receiver.name: receiver for receiver in named}

    def send(self, message: Message, receiver: Receiver) -> str | None:
        """Why a receiver did not take a message; None if it did. Nothing is raised: the sender tries again."""
        from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

        kind = NotifyType.FAILURE if message.is_error else NotifyType.WARNING
        with _silence():
            try:
                service = Apprise.instantiate(receiver.url, asset=AppriseAsset(app_id="Fleet", app_desc="Fleet"))
                if service is None:
                    return "its URL is none that Apprise understands"
                body, text = message.body[:LONGEST], NotifyFormat.TEXT
                taken = service.notify(body=body, title=message.title, notify_type=kind, body_format=text)
            except Exception as error:  # a service's own mistake, whose text may hold the URL
                return f"a {type(error).__name__} was raised"
        return None if taken else "it cannot be reached, or refused"


def _service(url: str) -> str:
    """The kind of service if Apprise knows it: what it does not know may be anything, a password too."""
    from apprise.manager_plugins import NotificationManager

    schema = url.partition("://")[0].lower()
    with _silence():
        known = schema in OF_THE_WEB or schema in NotificationManager()
    return schema if known else "of no known kind"


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the libraries that send from logging; one thread at a time, so that levels are put back as they were."""
    with _one_at_a_time, ExitStack() as stack:
        for name in TALKATIVE:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(SILENT)
        yield

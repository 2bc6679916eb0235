"""Messages to a real HTTP receiver, receivers that are wrong or down, and logs without a secret."""

from __future__ import annotations

import base64
import logging
from collections.abc import Iterator

import pytest
from dagster import EnvVar, build_resources

from resources import notifier as module
from resources.environment import without_passwords
from resources.notifier import NOTIFY_VARIABLE, Message, Notifier
from tests.inbox import Inbox, open_inbox

SECRETS = ("s3cret", "T0KEN", "h3ader", base64.b64encode(b"ann:s3cret").decode())
MESSAGE = Message("tiny: a check failed", "features.schema of ice 🍦\nhttp://127.0.0.1:3000/runs/1")
DOWN = "json://ann:s3cret@127.0.0.1:1/T0KEN?+X-Key=h3ader"
WRONG = ("s3cret", "nonsense://ann:s3cret@host", "s3cret://T0KEN", "slack://T0KEN", "slack://ann:s3cret@T0KEN/x")


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with open_inbox() as made:
        yield made


def told(notifier: Notifier, message: Message = MESSAGE) -> dict[str, str | None]:
    return {name: notifier.send(message, receiver) for name, receiver in notifier.receivers().items()}


def with_secrets(inbox: Inbox) -> str:
    return f"json://ann:s3cret@127.0.0.1:{inbox.port}/hook/T0KEN?+X-Key=h3ader"


def test_a_message_arrives_as_it_is(inbox: Inbox) -> None:
    assert told(Notifier(urls=with_secrets(inbox))) == {"receiver 1 (json)": None}
    [message], [(path, headers)] = inbox.messages, inbox.requests
    assert (message["title"], message["message"], message["type"]) == (MESSAGE.title, MESSAGE.body, "failure")
    assert path == "/hook/T0KEN"
    assert headers["X-Key"] == "h3ader"
    assert headers["Authorization"] == f"Basic {SECRETS[3]}"


def test_a_warning_is_told_from_an_error_and_a_long_message_is_cut(inbox: Inbox) -> None:
    told(Notifier(urls=inbox.url), Message("long", "x" * 1_000_000, is_error=False))
    [message] = inbox.messages
    assert message["type"] == "warning"
    assert len(message["message"]) == module.LONGEST


def test_several_receivers_are_told_apart_by_place_and_kind(inbox: Inbox) -> None:
    urls = f" {inbox.url}, mailto://ann:s3cret@example.org?to=a@b.org,c@d.org\n{inbox.url}/b,,"
    found = Notifier(urls=urls).receivers()
    assert list(found) == ["receiver 1 (json)", "receiver 2 (mailto)", "receiver 3 (json)"]
    assert found["receiver 2 (mailto)"].url.endswith("?to=a@b.org,c@d.org")
    assert found["receiver 3 (json)"].url == f"{inbox.url}/b"


def test_one_that_is_down_or_wrong_keeps_nothing_from_the_others(inbox: Inbox) -> None:
    found = list(told(Notifier(urls=" ".join([DOWN, WRONG[1], inbox.url]))).values())
    assert found == ["it cannot be reached, or refused", "its URL is none that Apprise understands", None]
    assert len(inbox.messages) == 1


def test_a_receiver_that_refuses_did_not_take_it(inbox: Inbox) -> None:
    inbox.status = 500
    assert told(Notifier(urls=inbox.url)) == {"receiver 1 (json)": "it cannot be reached, or refused"}


def test_nobody_is_told_where_the_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(NOTIFY_VARIABLE, raising=False)
    assert Notifier.from_environment().receivers() == {}


def test_the_variable_is_named_not_copied_into_the_definitions(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NOTIFY_VARIABLE, with_secrets(inbox))
    made = Notifier.from_environment()
    assert isinstance(made.urls, EnvVar)
    with build_resources({"notifier": made}) as resources:
        ready = resources.notifier
        assert told(ready) == {"receiver 1 (json)": None}
        assert not leaked(repr(ready) + str(ready))


def leaked(text: str) -> list[str]:
    return [secret for secret in SECRETS if secret in text]


def everything_said(inbox: Inbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> str:
    """All that is logged or printed, at every level, while messages are taken, refused, or go nowhere."""
    with caplog.at_level(1):
        for name in module.TALKATIVE:
            caplog.set_level(1, name)
        answers = [told(Notifier(urls=with_secrets(inbox)))]
        inbox.status = 403
        mail = "mailto://ann:s3cret@127.0.0.1:1?from=a@b.org&to=c@d.org"
        answers += [told(Notifier(urls=" ".join([with_secrets(inbox), DOWN, mail, *WRONG])))]
    printed = capfd.readouterr()
    return "\n".join([caplog.text, printed.out, printed.err, str(answers)])


def test_no_secret_in_any_log(
    inbox: Inbox, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    assert not leaked(everything_said(inbox, caplog, capfd))
    levels = {name: logging.getLogger(name).level for name in module.TALKATIVE}
    assert module.SILENT not in levels.values()


def test_the_libraries_would_say_them(
    inbox: Inbox,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SILENT", 1)
    assert set(leaked(everything_said(inbox, caplog, capfd))) >= {"s3cret", "T0KEN"}


def test_a_services_own_mistake_is_not_quoted(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    from apprise.plugins.custom_json import NotifyJSON

    def broken(*_: object, **__: object) -> bool:
        raise ValueError("json://ann:s3cret@host")

    monkeypatch.setattr(NotifyJSON, "send", broken)
    assert told(Notifier(urls=inbox.url)) == {"receiver 1 (json)": "a ValueError was raised"}


def test_users_and_passwords_leave_the_urls_of_a_text() -> None:
    said = "cannot reach postgresql://ann:s3cret@db:5432/x nor s3://bucket/a@b"
    assert without_passwords(said) == "cannot reach postgresql://***@db:5432/x nor s3://bucket/a@b"

"""The pages, as a person reads and uses them, without any script."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import text

from outbox import Outbox
from outbox.lifecycle import Status
from outbox.store.records import GateKind
from outbox.web import Open, create_app
from outbox.web.reading import PAGE_LIMIT
from tests.integration.web.browsing import Browser, text_of
from tests.integration.web.conftest import Enqueue


def test_an_empty_outbox_says_so(operator: Browser) -> None:
    assert "Everything is open." in operator.page("/")
    assert "Nothing ended in the last hour." in operator.page("/")
    assert "No messages yet." in operator.page("/messages")
    assert "Nothing matches." in operator.page("/messages?status=parked")


def test_the_overview_shows_where_messages_stand(operator: Browser, end: Enqueue, enqueue: Enqueue, talker: Outbox) -> None:
    end({"fail": "no"})
    end({"unknown": "no answer"})
    end()
    enqueue()
    moved = enqueue()
    with talker.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("update message_outbox set channel = 'elsewhere' where id = :id"), {"id": moved})
    page = text_of(operator.page("/"))
    assert "Waiting 2 oldest due" in page
    assert "Parked 1 wait for you" in page
    assert "Failed 1 dead letters kept" in page
    assert "chat 1 0 0 of 40 1 1 0 0 1" in page
    assert "elsewhere not known here" in page


def test_the_overview_shows_what_is_closed_and_who_closed_it(operator: Browser, talker: Outbox, enqueue: Enqueue) -> None:
    enqueue()
    talker.pause("chat", reason="their night", actor="ada", for_s=3_600)
    talker.store.close("chat", "gone.example", GateKind.GONE, for_ms=None, reason="410")
    page = text_of(operator.page("/"))
    assert "chat closed" in page
    assert "chat all of it pause" in page
    assert "their night ada" in page
    assert "chat gone.example gone" in page
    assert "pause chat" in page.split("What operators paused and resumed")[1]


def test_rates_and_latencies_are_drawn_over_time(operator: Browser, end: Enqueue, talker: Outbox) -> None:
    for payload in (None, {"fail": "no"}):
        end(payload)
    _count(talker)
    page = operator.page("/")
    assert "Delivered 1 last hour" in text_of(page)
    assert '<rect class="delivered"' in page
    assert '<rect class="failed"' in page
    for span in ("6h", "24h", "7d"):
        assert '<rect class="delivered"' in operator.page(f"/?span={span}")
    assert operator.get("/?span=year").status_code == 400


def _count(outbox: Outbox) -> None:
    """Tally without the pause in which a late commit might follow."""
    with outbox.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(text("update message_outbox set completed_at = completed_at - 40000, queued_at = queued_at - 41000"))
    assert outbox.maintain_once()["tally"]


def test_a_list_is_filtered(operator: Browser, end: Enqueue, enqueue: Enqueue) -> None:
    dead = end({"fail": "they said no"}, target="a")
    waits = enqueue(turn_id="turn 7", target="b", idempotency_key="order 42")

    def shown(query: str) -> set[str]:
        page = operator.page(f"/messages?{query}")
        return {message_id for message_id in (dead, waits) if f"/messages/{message_id}" in page}

    assert shown("") == {dead, waits}
    assert shown("status=failed_terminal") == shown("target=a") == shown(f"q={dead}") == {dead}
    assert shown("status=queued") == shown("turn_id=turn+7") == shown("q=order+42") == shown("q=turn+7") == {waits}
    assert shown("channel=email") == shown("q=nothing") == set()
    assert "they said no" in operator.page("/messages?status=failed_terminal")


def test_a_long_list_goes_on_on_further_pages(operator: Browser, talker: Outbox, enqueue: Enqueue) -> None:
    ids = [enqueue() for _ in range(PAGE_LIMIT + 3)]
    first = operator.page("/messages?channel=chat")
    (older,) = [part for part in first.split('"') if "after=" in part and part.startswith("/messages")]
    second = operator.page(older.replace("&amp;", "&"))
    on_page = [[message_id for message_id in ids if f"/messages/{message_id}" in page] for page in (first, second)]
    assert on_page == [ids[3:], ids[:3]]
    assert "channel=chat" in older
    assert 'rel="next"' in first
    assert 'rel="next"' not in second


@pytest.mark.parametrize("query", ["status=odd", "after=x", "after=1.2.3", "after=-1", "target=%00", f"after={'9' * 30}"])
def test_a_filter_that_means_nothing_is_a_problem_and_no_defect(operator: Browser, query: str) -> None:
    response = operator.get(f"/messages?{query}")
    assert response.status_code == 400
    assert "Bad Request" in response.get_data(as_text=True)


def test_a_message_is_shown_with_all_that_happened_to_it(admin: Browser, end: Enqueue, talker: Outbox) -> None:
    message_id = end({"fail": "HTTP 410"}, target="https://a.example", turn_id="t", idempotency_key="k", ordering_key="o")
    talker.retry(message_id, actor="ada", reason="they mended it")
    talker.drain()
    page = text_of(admin.page(f"/messages/{message_id}"))
    facts = [
        "https://a.example", "failed terminal", "permanent HTTP 410", "attempt 1: rejected", "replay by an operator",
        "they mended it", "by ada", "Turn t", "Idempotency key k", "Ordering key o", '"fail": "HTTP 410"',
    ]  # fmt: skip
    for fact in facts:
        assert fact in page
    assert page.index("enqueued") < page.index("attempt 1") < page.index("replay by") < page.rindex("permanent failure")


def test_a_message_that_is_not_kept_is_not_found(operator: Browser) -> None:
    response = operator.get("/messages/nothing")
    assert response.status_code == 404
    assert "no message 'nothing' is kept" in text_of(response.get_data(as_text=True))


HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"


def test_nothing_that_a_message_holds_becomes_markup(admin: Browser, end: Enqueue, talker: Outbox) -> None:
    names = dict.fromkeys(("target", "turn_id", "idempotency_key", "ordering_key", "account_id"), HOSTILE)
    message_id = end({"fail": HOSTILE, "more": HOSTILE}, headers={HOSTILE: HOSTILE}, **names)
    talker.retry(message_id, actor=HOSTILE, reason=HOSTILE)
    talker.drain()
    talker.pause("chat", target=HOSTILE, reason=HOSTILE, actor=HOSTILE)
    with talker.store.engine.begin() as connection:  # type: ignore[attr-defined]
        for column in ("lease_owner", "terminal_reason"):
            connection.execute(text(f"update message_outbox set {column} = :hostile"), {"hostile": HOSTILE})
        connection.execute(text('update message_outbox set receipt = \'{"id": "<script>"}\''))
    for path in ("/", "/messages", f"/messages/{message_id}", "/messages?q=%3Cscript%3E&target=%3Cscript%3E%22"):
        page = admin.page(path)
        assert page.count("<script") == 1
        assert "<img" not in page
        assert 'onerror=alert(2)>"' not in page
    assert "{{7*7}}" in text_of(admin.page(f"/messages/{message_id}"))


def test_a_corrupt_row_is_shown_as_it_is(admin: Browser, enqueue: Enqueue, talker: Outbox) -> None:
    message_id = enqueue()
    with talker.store.engine.begin() as connection:  # type: ignore[attr-defined]
        connection.execute(
            text("update message_outbox set payload = '{oops', receipt = '[oops', next_attempt_at = 99999999999999999")
        )
    page = text_of(admin.page(f"/messages/{message_id}"))
    assert "{oops" in page
    assert "[oops" in page


Look = Callable[[str], list[tuple[str, str | None, str | None]]]


@pytest.fixture
def record(talker: Outbox) -> Look:
    """What is on record of a message: action, who, and why."""
    return lambda message_id: [(each.action, each.actor, each.reason) for each in talker.store.operations(message_id)]


def test_ticked_messages_are_retried_on_record(operator: Browser, end: Enqueue, talker: Outbox, record: Look) -> None:
    ids = [end({"fail": "no"}) for _ in range(3)]
    response = operator.submit("/messages/act", verb="retry", id=ids[:2], reason="mended", status="failed_terminal")
    assert (response.status_code, response.location) == (303, "/messages?status=failed_terminal")
    assert [talker.get(message_id).status for message_id in ids] == ["queued", "queued", "failed_terminal"]
    assert record(ids[0]) == [("replay", "grace", "mended")]


def test_a_message_is_cancelled_from_its_page(operator: Browser, enqueue: Enqueue, talker: Outbox, record: Look) -> None:
    message_id = enqueue()
    form = {"verb": "cancel", "id": message_id, "from": "message", "reason": " "}
    response = operator.submit("/messages/act", **form)
    assert response.location == f"/messages/{message_id}"
    assert record(message_id) == [("cancel", "grace", None)]


@pytest.mark.parametrize(
    ("verb", "status", "action"), [("resolve_sent", "delivered", "resolve sent"), ("resolve_not_sent", "queued", "replay")]
)
def test_a_parked_message_is_resolved(
    operator: Browser, end: Enqueue, talker: Outbox, record: Look, verb: str, status: str, action: str
) -> None:
    message_id = end({"unknown": "no answer"})
    assert "It was not sent" in operator.page(f"/messages/{message_id}")
    operator.submit("/messages/act", verb=verb, id=message_id, reason="asked them")
    assert talker.get(message_id).status == status
    assert record(message_id) == [(action, "grace", "asked them")]


def test_what_is_refused_is_told_by_name(operator: Browser, end: Enqueue, enqueue: Enqueue, talker: Outbox) -> None:
    dead, waits = end({"fail": "no"}), enqueue()
    response = operator.submit("/messages/act", verb="retry", id=[dead, waits])
    assert response.status_code == 409
    page = text_of(response.get_data(as_text=True))
    assert "Retry: 1 done, 1 refused" in page
    assert f"{waits} it is queued, so it will be tried anyway" in page
    assert talker.get(dead).status == "queued"


def test_all_that_match_are_changed_once_that_is_confirmed(operator: Browser, end: Enqueue, talker: Outbox) -> None:
    ids = [end({"fail": "no"}, target="a") for _ in range(3)]
    other = end({"fail": "no"}, target="b")
    form = {"verb": "retry", "scope": "all", "status": "failed_terminal", "target": "a", "reason": "mended"}
    asked = operator.submit("/messages/act", **form)
    assert "Retry 3 messages?" in text_of(asked.get_data(as_text=True))
    assert 'value="mended"' in asked.get_data(as_text=True)
    assert {talker.get(message_id).status for message_id in ids} == {Status.FAILED_TERMINAL}
    assert operator.submit("/messages/act", confirmed="yes", **form).status_code == 303
    assert {talker.get(message_id).status for message_id in ids} == {Status.QUEUED}
    assert talker.get(other).status == "failed_terminal"


@pytest.mark.parametrize(
    ("verb", "asked", "warning", "status"),
    [
        ("resolve_sent", "Record as sent 2 messages?", "Nobody will send them any more.", Status.DELIVERED),
        ("resolve_not_sent", "Send 2 messages?", "Whoever got one of them after all gets it again.", Status.QUEUED),
    ],
)
def test_parked_messages_are_resolved_at_once_when_that_is_confirmed(
    operator: Browser, end: Enqueue, talker: Outbox, verb: str, asked: str, warning: str, status: Status
) -> None:
    ids = [end({"unknown": "no answer"}) for _ in range(2)]
    form = {"verb": verb, "scope": "all", "status": "parked"}
    page = text_of(operator.submit("/messages/act", **form).get_data(as_text=True))
    assert asked in page
    assert warning in page
    assert operator.submit("/messages/act", confirmed="yes", **form).status_code == 303
    assert {talker.get(message_id).status for message_id in ids} == {status}


def test_whoever_would_send_delivered_messages_again_is_warned(operator: Browser, end: Enqueue) -> None:
    end()
    asked = operator.submit("/messages/act", verb="retry", scope="all", status="delivered")
    assert "whoever got them gets them again" in text_of(asked.get_data(as_text=True))


@pytest.mark.parametrize(
    "form",
    [
        {"verb": "retry", "scope": "all"}, {"verb": "resolve_sent", "scope": "all"}, {"verb": "retry"},
        {"verb": "destroy", "id": "x"}, {"verb": "cancel", "id": "x", "reason": "x" * 1_001},
        {"verb": "cancel", "id": "x", "reason": "\0"},
    ],
)  # fmt: skip
def test_what_would_touch_everything_or_means_nothing_is_refused(
    operator: Browser, end: Enqueue, talker: Outbox, form: dict[str, str]
) -> None:
    message_id = end({"fail": "no"})
    assert operator.submit("/messages/act", **form).status_code == 400
    assert talker.get(message_id).status == "failed_terminal"


def test_a_channel_is_paused_and_resumed_on_record(operator: Browser, talker: Outbox, enqueue: Enqueue) -> None:
    enqueue()
    operator.submit("/channels/pause", channel="chat", target="t", for_s="900", reason="their night")
    (gate,) = talker.store.gates()
    assert (gate.channel, gate.target, gate.kind, gate.reason, gate.actor) == ("chat", "t", "pause", "their night", "grace")
    assert gate.closed_until is not None
    assert "Resume" in operator.page("/")
    operator.submit("/channels/resume", channel="chat", target="t")
    assert talker.store.gates() == []
    assert [(each.action, each.actor) for each in talker.store.gate_operations(9)] == [("resume", "grace"), ("pause", "grace")]


@pytest.mark.parametrize(
    "form", [{"channel": "", "for_s": ""}, {"channel": "chat", "for_s": "7"}, {"channel": "chat", "for_s": "x"}]
)
def test_a_pause_that_the_form_does_not_offer_is_refused(operator: Browser, talker: Outbox, form: dict[str, str]) -> None:
    assert operator.submit("/channels/pause", **form).status_code == 400
    assert talker.store.gates() == []


def test_a_database_without_the_tables_says_what_to_do(tmp_path: Path) -> None:
    outbox = Outbox(f"sqlite:///{tmp_path / 'empty.db'}")
    browser = Browser(create_app(outbox, auth=Open("grace")))
    response = browser.get("/")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert "outbox db upgrade" in response.get_data(as_text=True)
    assert browser.get("/api/v1/overview").json["type"] == "urn:outbox:problem:schema-not-current"
    outbox.close()


def test_a_database_that_is_away_is_told_and_nothing_more(tmp_path: Path) -> None:
    outbox = Outbox("postgresql+psycopg://me:secret@127.0.0.1:1/nowhere")
    browser = Browser(create_app(outbox, auth=Open("grace")))
    response = browser.get("/")
    assert response.status_code == 503
    assert "Nothing is lost by waiting" in response.get_data(as_text=True)
    assert "secret" not in response.get_data(as_text=True)
    outbox.close()


def test_a_defect_is_logged_and_keeps_its_secrets(
    operator: Browser, talker: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def defect(*_: object) -> None:
        raise ValueError("the secret of the house")

    monkeypatch.setattr(talker.store, "census", defect)
    with caplog.at_level(logging.ERROR, "outbox.web"):
        page = operator.get("/").get_data(as_text=True)
        problem = operator.get("/api/v1/overview").json
    assert "the secret" not in page
    assert "the secret" not in str(problem)
    (first, second) = [record.getMessage() for record in caplog.records]
    assert first.split("reference ")[1].rstrip(")") in page
    assert second.split("reference ")[1].rstrip(")") in problem["detail"]


def test_no_payload_target_or_reason_is_logged(operator: Browser, enqueue: Enqueue, caplog: pytest.LogCaptureFixture) -> None:
    message_id = enqueue({"text": "the payload"}, target="the target")
    with caplog.at_level(logging.DEBUG, "outbox"):
        operator.submit("/messages/act", verb="cancel", id=message_id, reason="the reason")
        operator.submit("/channels/pause", channel="chat", target="the target", for_s="", reason="the reason")
        operator.submit("/channels/resume", channel="chat", target="the target")
    assert [record.getMessage() for record in caplog.records] == [
        "cancel by grace: 1 changed, 0 refused", "pause of channel chat by grace", "resume of channel chat by grace: 1 opened",
    ]  # fmt: skip

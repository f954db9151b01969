"""The pages. They read and act without any script; the script only keeps them fresh and the hands on the keyboard."""

from typing import Any

from werkzeug.utils import redirect
from werkzeug.wrappers import Response

from outbox.facts import message_facts
from outbox.lifecycle import ACTIVE, CANCELLABLE, REPLAYABLE, Event, Status, sources
from outbox.store.records import MessageFilter, OperatorResult
from outbox.web import acting, api, charts, reading
from outbox.web.acting import Verb
from outbox.web.problems import Problem
from outbox.web.timeline import timeline
from outbox.web.visiting import Visit

PAUSES = {"": "until resumed", "300": "5 minutes", "900": "15 minutes", "3600": "1 hour", "28800": "8 hours", "86400": "1 day"}
MOST_REFUSALS = 20


def overview(visit: Visit) -> Response:
    """How things stand, and how they went."""
    span = api.parsed_span(visit.request.args.get("span"))
    series = charts.series(visit.outbox, span)
    return visit.render(
        "overview.html",
        now=reading.overview(visit.outbox),
        series=series,
        rate=charts.rate_chart(series),
        latency=charts.latency_chart(series),
        spans=list(charts.Span),
        size=(charts.WIDTH, charts.HEIGHT),
        Status=Status,
        ACTIVE=ACTIVE,
        pauses=PAUSES,
    )


def messages(visit: Visit) -> Response:
    """A list, its filters, and what can be done to those that are ticked."""
    arguments = visit.request.args
    wanted, name = api.parsed_filter(arguments), arguments.get("q", "").strip()
    after = reading.parsed_place(arguments.get("after"))
    page = reading.page(visit.outbox, wanted, name or None, after, reading.PAGE_LIMIT)
    return visit.render(
        "messages.html",
        now_ms=visit.outbox.store.now_ms(),
        page=page,
        following=None if page.next is None else reading.place_text(page.next),
        wanted=wanted,
        name=name,
        is_first=after is None,
        statuses=list(Status),
        channels=reading.channel_names(visit.outbox),
        filters=_filters(wanted),
        verbs=_verbs_for(wanted),
        Status=Status,
    )


def message(visit: Visit, message_id: str) -> Response:
    """All that is known of one message."""
    story = reading.story(visit.outbox, message_id)
    status = story.message.status
    return visit.render(
        "message.html",
        story=story,
        message=story.message,
        facts=message_facts(story.message, content=visit.may_see_content),
        timeline=timeline(story),
        may_retry=status in sources(Event.REPLAY) and story.message.is_final,
        may_cancel=status in sources(Event.CANCEL),
        may_resolve=status in sources(Event.RESOLVE_SENT),
    )


def act(visit: Visit) -> Response:
    """Do what the form says to the messages that are ticked, or to all that match once that is confirmed."""
    form = visit.request.form
    verb, reason = acting.parsed_verb(form.get("verb", "")), acting.parsed_reason(form.get("reason", ""))
    ids = form.getlist("id")
    if form.get("scope") == "all":
        wanted = api.parsed_filter(form)
        ids = acting.meant(visit.outbox, verb, wanted)
        if form.get("confirmed") != "yes":
            return _confirmation(visit, verb, wanted, ids)
    if not ids:
        raise Problem(400, "nothing-named", "no message was ticked, so nothing was done")
    result = acting.act(visit.outbox, verb, ids, visit.acting(), reason)
    if not result.refused:
        return redirect(_back(visit), 303)
    return _outcome(visit, verb, result)


def pause(visit: Visit) -> Response:
    """Close a channel or one of its targets."""
    form = visit.request.form
    channel, length = form.get("channel", "").strip(), form.get("for_s", "")
    if not channel or length not in PAUSES:
        raise Problem(400, "invalid-parameter", "name a channel, and one of the offered lengths")
    reason = acting.parsed_reason(form.get("reason", ""))
    for_s = float(length) if length else None
    acting.pause(visit.outbox, channel, form.get("target", "").strip(), for_s, visit.acting(), reason)
    return redirect(visit.url("overview"), 303)


def resume(visit: Visit) -> Response:
    """Open a channel or one of its targets."""
    form = visit.request.form
    reason = acting.parsed_reason(form.get("reason", ""))
    acting.resume(visit.outbox, form.get("channel", ""), form.get("target", ""), visit.acting(), reason)
    return redirect(visit.url("overview"), 303)


def _confirmation(visit: Visit, verb: Verb, wanted: MessageFilter, ids: list[str]) -> Response:
    form = visit.request.form
    return visit.render(
        "confirm.html", verb=verb, count=len(ids), filters=_filters(wanted), reason=form.get("reason", ""), back=_back(visit)
    )


def _outcome(visit: Visit, verb: Verb, result: OperatorResult) -> Response:
    return visit.render(
        "refused.html", 409, verb=verb, changed=len(result.changed), refused=result.refused[:MOST_REFUSALS],
        more=max(0, len(result.refused) - MOST_REFUSALS), back=_back(visit),
    )  # fmt: skip


def _back(visit: Visit) -> str:
    """The message, or the list with its filters, from which the form was sent."""
    form = visit.request.form
    if form.get("from") == "message":
        return visit.url("message", message_id=form.get("id"))
    return visit.url("messages", **_filters(api.parsed_filter(form)))


def _filters(wanted: MessageFilter) -> dict[str, Any]:
    named = {"status": wanted.status, "channel": wanted.channel, "target": wanted.target, "turn_id": wanted.turn_id}
    return {name: str(value) for name, value in named.items() if value is not None}


def _verbs_for(wanted: MessageFilter) -> list[Verb]:
    """What may apply to messages of the listed status, the likeliest first; of a parked one its outcome is asked."""
    if wanted.status is Status.PARKED:
        return [Verb.RESOLVE_SENT, Verb.RESOLVE_NOT_SENT, Verb.CANCEL]
    applies = {Verb.RETRY: REPLAYABLE, Verb.CANCEL: CANCELLABLE}
    return [verb for verb, statuses in applies.items() if wanted.status is None or wanted.status in statuses]

"""The JSON API: what the pages show and do, for programs. Errors are RFC 9457 problems; see :mod:`outbox.web.openapi`."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response

from outbox.errors import did_you_mean
from outbox.facts import iso, message_facts, record_facts
from outbox.lifecycle import Status
from outbox.store.records import Count, MessageFilter
from outbox.web import acting, charts, reading
from outbox.web.acting import Verb
from outbox.web.problems import Problem
from outbox.web.visiting import Visit

MOST_IDS = 1_000
FILTERS = ("status", "channel", "target", "turn_id")


def session(visit: Visit) -> Response:
    """Who asks, what they may do, and the token that changes made with the session's cookie carry."""
    visitor = visit.visitor
    return _json(
        {
            "name": visitor.name if visitor else None,
            "role": visitor.role if visitor else None,
            "may_act": visit.may_act,
            "may_see_content": visit.may_see_content,
            "csrf_token": visit.csrf_token,
        }
    )


def overview(visit: Visit) -> Response:
    """Counts, ages and gates."""
    _known(visit.request.args, ())
    now = reading.overview(visit.outbox)
    channels = [
        {
            "channel": channel.name,
            "counts": {status: _count(channel.count(status)) for status in Status},
            "oldest_due_age_ms": channel.oldest_due_age_ms,
            "in_flight": channel.in_flight,
            "max_in_flight": channel.max_in_flight,
            "closed": channel.closed,
        }
        for channel in now.channels
    ]
    gates, operations = [*map(record_facts, now.gates)], [*map(record_facts, now.operations)]
    return _json({"now": iso(now.now_ms), "channels": channels, "gates": gates, "gate_operations": operations})


def series(visit: Visit) -> Response:
    """What ended over time."""
    arguments = visit.request.args
    _known(arguments, ("span", "channel"))
    found = charts.series(visit.outbox, parsed_span(arguments.get("span")), arguments.get("channel") or None)
    steps = [
        {
            "start": iso(step.start_ms), "delivered": step.delivered, "failed": step.failed, "other": step.other,
            "latency_average_ms": step.latency_ms, "latency_max_ms": step.latency_max_ms if step.delivered else None,
        }
        for step in found.steps
    ]  # fmt: skip
    return _json({"span": found.span.key, "step_ms": found.span.step_ms, "steps": steps})


def messages(visit: Visit) -> Response:
    """A page of messages that match, or those that ``q`` names."""
    arguments = visit.request.args
    _known(arguments, (*FILTERS, "q", "after", "limit"))
    after = reading.parsed_place(arguments.get("after"))
    page = reading.page(visit.outbox, parsed_filter(arguments), arguments.get("q") or None, after, _limit(arguments))
    following = None if page.next is None else reading.place_text(page.next)
    return _json({"messages": [*map(record_facts, page.lines)], "next": following})


def message(visit: Visit, message_id: str) -> Response:
    """All that is known of a message; what it says, only for who may see that."""
    _known(visit.request.args, ())
    story = reading.story(visit.outbox, message_id)
    facts = message_facts(story.message, content=visit.may_see_content)
    records = {"attempts": [*map(record_facts, story.attempts)], "operations": [*map(record_facts, story.operations)]}
    return _json(facts | records)


def act(visit: Visit, verb: str) -> Response:
    """Retry, cancel or resolve the messages that are named by ``ids`` or meant by ``filter``."""
    body = _body(visit, {"ids": list, "filter": dict, "reason": str, "sent": bool})
    what = _verb(verb, body.get("sent"))
    ids = body.get("ids")
    if (ids is None) == ("filter" not in body):
        raise Problem(422, "invalid-body", "name the messages either by `ids` or by `filter`")
    if ids is None:
        _known(body["filter"], FILTERS)
        if "" in body["filter"].values():  # or a client that has lost a target would act on those of all
            raise Problem(422, "invalid-body", "a filter is empty: leave it out")
        ids = acting.meant(visit.outbox, what, parsed_filter(body["filter"]))
    elif not 0 < len(ids) <= MOST_IDS or not all(isinstance(one, str) for one in ids):
        raise Problem(422, "invalid-body", f"`ids` is a list of 1 to {MOST_IDS} texts")
    result = acting.act(visit.outbox, what, ids, visit.acting(), acting.parsed_reason(body.get("reason", "")))
    return _json({"changed": list(result.changed), "refused": [asdict(refusal) for refusal in result.refused]})


def pause(visit: Visit, channel: str) -> Response:
    """Close a channel or one of its targets, for ``for_s`` seconds or until it is resumed."""
    body = _body(visit, {"target": str, "for_s": (int, float), "reason": str})
    reason = acting.parsed_reason(body.get("reason", ""))
    acting.pause(visit.outbox, channel, body.get("target", ""), body.get("for_s"), visit.acting(), reason)
    return _json({"channel": channel, "target": body.get("target", "")})


def resume(visit: Visit, channel: str) -> Response:
    """Open a channel or one of its targets; with ``all_targets`` all of them."""
    body = _body(visit, {"target": str, "all_targets": bool, "reason": str})
    target = None if body.get("all_targets") else body.get("target", "")
    reason = acting.parsed_reason(body.get("reason", ""))
    return _json({"channel": channel, "opened": acting.resume(visit.outbox, channel, target, visit.acting(), reason)})


def parsed_filter(given: Mapping[str, Any]) -> MessageFilter:
    """Which messages are meant. Raises :class:`~outbox.web.problems.Problem`."""
    texts = {name: given.get(name, "") for name in FILTERS}
    if not all(isinstance(text, str) for text in texts.values()):
        raise Problem(400, "invalid-parameter", "a filter is text")
    return MessageFilter(
        status=reading.parsed_status(texts["status"]),
        channel=texts["channel"] or None,
        target=texts["target"] or None,
        turn_id=texts["turn_id"] or None,
    )


def parsed_span(text: str | None) -> charts.Span:
    """The span of that key. Raises :class:`~outbox.web.problems.Problem`."""
    for span in charts.Span:
        if text in (None, "", span.key):
            return span
    keys = ", ".join(span.key for span in charts.Span)
    raise Problem(400, "invalid-parameter", f"there is no span {text!r}; it is one of {keys}")


def _verb(name: str, sent: bool | None) -> Verb:
    if name != "resolve":
        return Verb(name)
    if sent is None:
        raise Problem(422, "invalid-body", "say with `sent` whether they were sent")
    return Verb.RESOLVE_SENT if sent else Verb.RESOLVE_NOT_SENT


def _limit(arguments: MultiDict[str, str]) -> int:
    text = arguments.get("limit", str(reading.PAGE_LIMIT))
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and 1 <= int(text) <= reading.LONGEST_PAGE):
        raise Problem(400, "invalid-parameter", f"`limit` is a number from 1 to {reading.LONGEST_PAGE}")
    return int(text)


def _known(given: Mapping[str, Any], names: tuple[str, ...]) -> None:
    for name in given:
        if name not in names:
            raise Problem(400, "unknown-parameter", f"there is no parameter {name!r} here{did_you_mean(name, names)}")


def _body(visit: Visit, kinds: Mapping[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """The JSON object of the request. JSON alone: another site's form cannot send that."""
    if not visit.request.is_json:
        raise Problem(415, "json-needed", "send application/json")
    try:
        body = json.loads(visit.request.get_data() or b"{}")
    except (ValueError, RecursionError):
        raise Problem(400, "invalid-json", "the body is not JSON") from None
    if not isinstance(body, dict):
        raise Problem(422, "invalid-body", "the body is not an object")
    if not all(map(_is_storable, _texts(body))):
        raise Problem(422, "invalid-body", "there is a NUL or half a surrogate pair in it, which is no text")
    _known(body, tuple(kinds))
    for name, value in body.items():
        if not isinstance(value, kinds[name]) or isinstance(value, bool) != (kinds[name] is bool):
            raise Problem(422, "invalid-body", f"`{name}` is not of the right type")
    return body


def _texts(value: Any) -> Iterator[str]:
    """Every text in a JSON value; what is nested deeper than any body of ours is refused elsewhere."""
    match value:
        case str():
            yield value
        case list():
            for item in value:
                yield from _texts(item)
        case dict():
            for name, item in value.items():
                yield name
                yield from _texts(item)
        case _:
            return


def _is_storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _count(count: Count) -> dict[str, Any]:
    return {"rows": count.rows, "at_least": count.at_least}


def _json(value: Any) -> Response:
    return Response(json.dumps(value), content_type="application/json")

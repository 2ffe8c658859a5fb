"""Requests to a served model are limited, and its errors are one line."""

import asyncio
import json

import pytest

from stages.params import load
from stages.register import SETTINGS, ServedModelParams
from stages.serve import Guarded, ServerParams, main


def answer_to(app, *parts, headers=(), max_body_bytes=10):
    """Returns the status and body of a request that comes in parts."""
    sent = []
    waiting = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
        for i, part in enumerate(parts)
    ]

    async def receive():
        return waiting.pop(0)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "headers": list(headers)}
    asyncio.run(Guarded(app, max_body_bytes=max_body_bytes)(scope, receive, send))
    body = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], body, len(waiting)


def replying(status, text):
    async def app(_scope, receive, send):
        message = await receive()
        body = message["body"] if text is None else text.encode()
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": body[:3], "more_body": True})
        await send({"type": "http.response.body", "body": body[3:]})

    return app


def test_a_request_within_the_limit_passes_whole():
    assert answer_to(replying(200, None), b"01234", b"56789") == (200, b"0123456789", 0)


def test_one_that_announces_too_much_is_refused_unread():
    headers = [(b"content-length", b"11")]
    status, body, num_unread = answer_to(replying(200, None), b"0" * 11, headers=headers)
    assert (status, num_unread) == (413, 1)
    assert "expected at most 10 bytes" in json.loads(body)["message"]


def test_one_that_sends_too_much_without_announcing_it_is_cut_off():
    status, _, num_unread = answer_to(replying(200, None), *[b"0" * 6] * 5)
    assert (status, num_unread) == (413, 3)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            json.dumps({"error_code": "X", "message": "Failed '\nb' \nError: image 0: bad",
                        "stack_trace": "secret"}),
            {"error_code": "X", "message": "image 0: bad"},
        ),
        ("not supported\nat all", {"error_code": "BAD_REQUEST", "message": "not supported at all"}),
        ("[1]", {"error_code": "BAD_REQUEST", "message": "[1]"}),
    ],
)  # fmt: skip
def test_errors_become_one_line_without_data_and_traces(text, line):
    status, body, _ = answer_to(replying(400, text), b"")
    assert (status, json.loads(body)) == (400, line)


def test_json_too_deep_for_python_is_the_clients_error():
    async def app(_scope, _receive, send):
        # What Starlette does with an exception: answer, then raise it.
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"Internal Server Error"})
        raise RecursionError

    status, body, _ = answer_to(app, b"[[")
    assert status == 400
    assert "too many nested lists" in json.loads(body)["message"]


def test_what_is_no_request_passes():
    seen = []

    async def app(scope, _receive, _send):
        seen.append(scope["type"])

    asyncio.run(Guarded(app, max_body_bytes=1)({"type": "lifespan"}, None, None))
    assert seen == ["lifespan"]


def test_the_shipped_limits_hold_an_image_in_one_request():
    model = load("model", ServedModelParams, SETTINGS)
    assert load("server", ServerParams, SETTINGS).max_body_bytes > model.max_bytes * 4 / 3


def test_what_names_no_version_is_one_line():
    with pytest.raises(ValueError, match="expected <registered model>@<alias>"):
        main(["depth"])

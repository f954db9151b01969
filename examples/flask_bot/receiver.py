"""The other side: what gets the bot's answers. A process of its own, with a ledger of its own that knows no outbox.

It verifies every signature, writes down every request, and is no easy neighbour: some first attempts it refuses, some it
leaves without an answer.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from zlib import crc32

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

from examples.flask_bot.ledger import Ledger, Verdict

ANSWERING_TAKES_S = 0.02
SILENCE_S = 4.0
"""Longer than the channel's timeout."""


def create_app(secret: str, ledger: Ledger) -> web.Application:
    """An application that takes webhooks at ``/replies``."""
    webhook = Webhook(secret)

    async def receive(request: web.Request) -> web.Response:
        body = await request.text()
        try:
            webhook.verify(body, {name.lower(): value for name, value in request.headers.items()})
        except WebhookVerificationError as error:
            ledger.write(time.time(), request.headers.get("webhook-id", ""), {}, Verdict.FORGED)
            return web.Response(status=401, text=str(error))
        message_id, reply = request.headers["webhook-id"], json.loads(body)
        verdict = Verdict.ACCEPTED if ledger.knows(message_id) else mood(reply)
        ledger.write(time.time(), message_id, reply, verdict)
        if verdict is Verdict.REFUSED:
            return web.Response(status=503, text="not now")
        await asyncio.sleep(SILENCE_S if verdict is Verdict.IGNORED else ANSWERING_TAKES_S)
        return web.Response(status=504 if verdict is Verdict.IGNORED else 204)

    app = web.Application()
    app.router.add_post("/replies", receive)
    return app


def mood(reply: dict[str, str | int]) -> Verdict:
    """How a reply is met the first time: of a hundred about six are refused, and one is ignored."""
    lot = crc32(f"{reply['number']} {reply['text']}".encode()) % 100
    if lot < 6:
        return Verdict.REFUSED
    return Verdict.IGNORED if lot == 99 else Verdict.ACCEPTED


async def serve(app: web.Application) -> None:
    """Serve on a free port of the loopback interface, and print the address."""
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(create_app(os.environ["BOT_WEBHOOK_SECRET"], Ledger.create(Path(sys.argv[1])))))

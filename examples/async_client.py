"""Many requests at once with the client for event loops: the same calls, sent by `AsyncClient`.

BESSEMER_URL=http://127.0.0.1:8080 BESSEMER_API_KEY=... python examples/async_client.py
"""

import asyncio
import os

from bessemer.client import AsyncClient, calls
from bessemer.core.openai_chat import ChatCompletion, ChatRequest, RequestExtension
from bessemer.core.paging import InferencesQuery


async def main() -> None:
    """Ask, then read back what was recorded, page by page."""
    async with AsyncClient(os.environ["BESSEMER_URL"], os.environ["BESSEMER_API_KEY"]) as client:

        async def ask(number: int) -> ChatCompletion:
            ticket = {"ticket": f"Order {number} was charged twice."}
            extension = RequestExtension(input=ticket, tags={"batch": "example"})
            return await client.send(calls.chat(ChatRequest(model="tickets", messages=[], bessemer=extension)))

        answers = await asyncio.gather(*map(ask, range(50)))
        print(f"{len(answers)} answers, the first: {answers[0].choices[0].message.content}")

        rows = client.each(calls.list_inferences(InferencesQuery(route="tickets", limit=20)))
        seconds = [row.latency_s async for row in rows if row.tags.get("batch") == "example"]
        print(f"{len(seconds)} recorded, {1000 * sum(seconds) / len(seconds):.0f} ms each")


asyncio.run(main())

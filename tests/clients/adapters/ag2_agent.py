"""AG2."""

import ag2
from ag2.config import OpenAIConfig

from adapters.openai_sync import City

PACKAGE = "ag2"
SDK = "openai-python"
AGENT = r"AsyncOpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return OpenAIConfig(MODEL, default_headers=headers, max_retries=retries, **key)


async def plain(client, prompt):
    return (await ag2.Agent("singer", config=client).ask(prompt)).body


async def tools(client, prompt):
    told = []

    def weather(city: str) -> str:
        """The weather of a city."""
        told.append({"city": city})
        return "rain"

    await ag2.Agent("singer", config=client, tools=[weather]).ask(prompt)
    return told[0]


async def structured(client, prompt):
    reply = await ag2.Agent("singer", config=client, response_schema=City).ask(prompt)
    return (await reply.content()).model_dump()

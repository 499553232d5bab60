"""AG2."""

import ag2
from ag2.config import OpenAIConfig, OpenAIResponsesConfig
from ag2.events import ModelMessageChunk

from adapters.openai_sync import City
from pull import pulled

PACKAGE = "ag2"
SDK = "openai-python"
AGENT = r"AsyncOpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return {**key, "default_headers": headers, "max_retries": retries}


def agent(client, config=OpenAIConfig, streaming=False, **options):
    return ag2.Agent("singer", config=config(MODEL, streaming=streaming, **client), **options)


async def plain(client, prompt):
    return (await agent(client).ask(prompt)).body


def stream(client, prompt):
    async def start(put):
        async with agent(client, streaming=True).run(prompt) as run:
            @run.stream.where(ModelMessageChunk).subscribe
            async def told(event: ModelMessageChunk):
                await put(event.content)

            await run.result()

    return pulled(start)


async def tools(client, prompt):
    told = []

    def weather(city: str) -> str:
        """The weather of a city."""
        told.append({"city": city})
        return "rain"

    await agent(client, tools=[weather]).ask(prompt)
    return told[0]


async def structured(client, prompt):
    reply = await agent(client, response_schema=City).ask(prompt)
    return (await reply.content()).model_dump()


async def responses(client, prompt):
    return (await agent(client, OpenAIResponsesConfig).ask(prompt)).body

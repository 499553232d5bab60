"""AutoGen's model client."""

import json

from autogen_core.models import UserMessage
from autogen_core.tools import FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient

from adapters.openai_sync import City
from pull import pulled

PACKAGE = "autogen-ext"
SDK = "openai-python"
AGENT = r"AsyncOpenAI/Python "
# A stream that is cancelled does not always close its connection.
WITHOUT = ["test_cancelled_stream"]
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return OpenAIChatCompletionClient(model=MODEL, default_headers=headers, max_retries=retries, **key)


def ask(prompt):
    return [UserMessage(content=prompt, source="user")]


def weather(city: str) -> str:
    return "rain"


async def plain(client, prompt):
    return (await client.create(ask(prompt))).content


def stream(client, prompt):
    async def start(put):
        async for piece in client.create_stream(ask(prompt)):
            if isinstance(piece, str):
                await put(piece)

    return pulled(start)


async def tools(client, prompt):
    answer = await client.create(ask(prompt), tools=[FunctionTool(weather, description="The weather of a city.")])
    return json.loads(answer.content[0].arguments)


async def structured(client, prompt):
    return json.loads((await client.create(ask(prompt), json_output=City)).content)

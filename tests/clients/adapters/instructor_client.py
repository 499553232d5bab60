"""Instructor."""

import json

import instructor

from adapters import openai_sync
from adapters.openai_sync import TOOL, City, ask

PACKAGE = "instructor"
SDK = openai_sync.SDK
AGENT = openai_sync.AGENT


def connect(base, headers, retries):
    return instructor.from_openai(openai_sync.connect(base, headers, retries))


async def plain(client, prompt):
    return client.chat.completions.create(**ask(prompt), response_model=None).choices[0].message.content


async def stream(client, prompt):
    with client.chat.completions.create(**ask(prompt), response_model=None, stream=True) as chunks:
        for chunk in chunks:
            yield chunk.choices[0].delta.content or ""


async def tools(client, prompt):
    answer = client.chat.completions.create(**ask(prompt), response_model=None, tools=[TOOL])
    return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)


async def structured(client, prompt):
    return client.chat.completions.create(**ask(prompt), response_model=City).model_dump()

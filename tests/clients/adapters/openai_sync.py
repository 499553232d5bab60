"""The official library, blocking."""

import json

import openai
import pydantic

PACKAGE = "openai"
SDK = "openai-python"
AGENT = f"OpenAI/Python {openai.__version__}"
MODEL = "gpt-4o-mini"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


class City(pydantic.BaseModel):
    city: str


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return openai.OpenAI(**key, default_headers=headers, max_retries=retries)


def ask(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


async def plain(client, prompt):
    return client.chat.completions.create(**ask(prompt)).choices[0].message.content


async def stream(client, prompt):
    with client.chat.completions.create(**ask(prompt), stream=True) as chunks:
        for chunk in chunks:
            # Usage was not asked for, so no chunk may stand without a choice.
            assert chunk.choices and chunk.usage is None
            yield chunk.choices[0].delta.content or ""


async def tools(client, prompt):
    answer = client.chat.completions.create(**ask(prompt), tools=[TOOL])
    return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)


async def structured(client, prompt):
    return client.chat.completions.parse(**ask(prompt), response_format=City).choices[0].message.parsed.model_dump()


async def responses(client, prompt):
    return client.responses.create(model=MODEL, input=prompt).output_text


async def embed(client, texts):
    return [item.embedding for item in client.embeddings.create(model="text-embedding-3-small", input=texts).data]

"""The official library, asynchronous, with everything streamed."""

import json

import openai
import pydantic

PACKAGE = "openai"
SDK = "openai-python"
AGENT = f"AsyncOpenAI/Python {openai.__version__}"
MODEL = "gpt-4o-mini"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


class City(pydantic.BaseModel):
    city: str


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return openai.AsyncOpenAI(**key, default_headers=headers, max_retries=retries)


def ask(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


async def plain(client, prompt):
    return (await client.chat.completions.create(**ask(prompt))).choices[0].message.content


async def stream(client, prompt):
    async with await client.chat.completions.create(**ask(prompt), stream=True) as chunks:
        async for chunk in chunks:
            yield chunk.choices[0].delta.content or ""


async def tools(client, prompt):
    chunks = await client.chat.completions.create(**ask(prompt), tools=[TOOL], stream=True)
    calls = [call async for chunk in chunks for call in chunk.choices[0].delta.tool_calls or []]
    return json.loads("".join(call.function.arguments or "" for call in calls))


async def structured(client, prompt):
    async with client.chat.completions.stream(**ask(prompt), response_format=City) as events:
        async for _ in events:
            pass
        return (await events.get_final_completion()).choices[0].message.parsed.model_dump()


async def responses(client, prompt):
    async with client.responses.stream(model=MODEL, input=prompt) as events:
        async for _ in events:
            pass
        return (await events.get_final_response()).output_text


async def embed(client, texts):
    answer = await client.embeddings.create(model="text-embedding-3-small", input=texts, encoding_format="float")
    return [item.embedding for item in answer.data]

"""LiteLLM as a library."""

import contextlib
import json

import litellm

from adapters.openai_sync import TOOL, City

PACKAGE = "litellm"
SDK = {"chat.completions": "openai-python", "embeddings": "openai-python", "responses": "litellm"}
AGENT = r"(Async)?OpenAI/Python |litellm/"
MODEL = "openai/gpt-4o-mini"

litellm.telemetry = False
litellm.suppress_debug_info = True


def connect(base, headers, retries):
    key = {"api_base": base, "api_key": "sk-test"} if base else {}
    return {**key, "extra_headers": headers, "max_retries": retries}


def ask(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


async def plain(client, prompt):
    return litellm.completion(**client, **ask(prompt)).choices[0].message.content


async def stream(client, prompt):
    with contextlib.closing(litellm.completion(**client, **ask(prompt), stream=True)) as chunks:
        for chunk in chunks:
            yield chunk.choices[0].delta.content or ""


async def tools(client, prompt):
    answer = await litellm.acompletion(**client, **ask(prompt), tools=[TOOL])
    return json.loads(answer.choices[0].message.tool_calls[0].function.arguments)


async def structured(client, prompt):
    return json.loads(litellm.completion(**client, **ask(prompt), response_format=City).choices[0].message.content)


async def responses(client, prompt):
    return litellm.responses(**client, model=MODEL, input=prompt).output_text


async def embed(client, texts):
    return [item["embedding"] for item in litellm.embedding(**client, model="openai/text-embedding-3-small", input=texts).data]

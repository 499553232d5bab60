"""httpx, with no library of a provider."""

import json
import os

import httpx

from adapters.openai_sync import TOOL

PACKAGE = "httpx"
SDK = "httpx"
AGENT = r"python-httpx/"
# Trying again is left to whoever calls it.
WITHOUT = ["test_retry_after_429"]
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    base, key = (base, "sk-test") if base else (os.environ["OPENAI_BASE_URL"], os.environ["OPENAI_API_KEY"])
    return httpx.Client(base_url=base, headers={"authorization": f"Bearer {key}"} | headers, timeout=30)


def ask(prompt):
    return {"model": MODEL, "messages": [{"role": "user", "content": prompt}]}


def post(client, path, body):
    answer = client.post(path, json=body)
    if answer.is_error:
        raise httpx.HTTPStatusError(answer.text, request=answer.request, response=answer)
    return answer.json()


async def plain(client, prompt):
    return post(client, "chat/completions", ask(prompt))["choices"][0]["message"]["content"]


async def stream(client, prompt):
    with client.stream("POST", "chat/completions", json=ask(prompt) | {"stream": True}) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: {"):
                event = json.loads(line.removeprefix("data: "))
                assert "error" not in event and "usage" not in event
                yield event["choices"][0]["delta"].get("content") or ""


async def tools(client, prompt):
    answer = post(client, "chat/completions", ask(prompt) | {"tools": [TOOL]})
    return json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


async def structured(client, prompt):
    answer = post(client, "chat/completions", ask(prompt) | {"response_format": {"type": "json_object"}})
    return json.loads(answer["choices"][0]["message"]["content"])


async def responses(client, prompt):
    answer = post(client, "responses", {"model": MODEL, "input": prompt})
    return answer["output"][0]["content"][0]["text"]


async def embed(client, texts):
    answer = post(client, "embeddings", {"model": "text-embedding-3-small", "input": texts})
    return [item["embedding"] for item in answer["data"]]

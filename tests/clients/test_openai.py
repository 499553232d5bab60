"""The official Python library drives calltap: what it returned, and what was recorded."""

import asyncio
import json
import os
import subprocess
import sys

import openai
import pytest

from calls import Calls
from provider import WORDS

TEXT = "".join(WORDS)
SERVED = "gpt-4o-mini-2024-07-18"
ASK = [{"role": "user", "content": "Do whales sing? 🐋"}]


class Call(Calls):
    """Calls with the official library."""

    def __init__(self, url):
        super().__init__(url)
        self.client = openai.OpenAI(
            base_url=self.base, api_key="sk-test-key", max_retries=0, default_headers=self.headers)


@pytest.fixture
def call(calltap):
    return Call(calltap.url)


def wish(what):
    return [{"role": "user", "content": f"wish:{what}"}]


def test_plain(call):
    raw = call.client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=ASK, temperature=0.5)
    answer = raw.parse()
    assert answer.choices[0].message.content == TEXT
    record = call.record()
    assert record["id"] == raw.headers["x-calltap-id"]
    assert record["model"] == {"requested": "gpt-4o-mini", "served": SERVED}
    assert (record["usage"]["input"], record["usage"]["output"]) == (9, len(WORDS))
    assert record["outcome"] == "completed" and record["finish_reasons"] == ["stop"]
    assert record["tags"]["prompt"] == "greet" and record["tags"]["user_query"] == ASK[0]["content"]
    assert record["client"]["sdk"] == "openai-python" and record["client"]["retry"] == 0
    assert record["client"]["user_agent"] == f"OpenAI/Python {openai.__version__}"
    assert record["client"]["key"].startswith("fp_")
    assert record["parameters"]["temperature"] == 0.5
    assert record["response"]["choices"][0]["message"]["content"] == TEXT
    assert record["cost"]["status"] == "priced"
    # 9 × $0.15 and 6 × $0.60 a million
    assert record["cost"]["total"] == "0.00000495"


def test_stream_sees_no_usage_and_the_record_has_it(call):
    chunks = list(call.client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    record = call.record()
    assert record["stream"] and record["usage"]["output"] == len(WORDS)
    assert record["response"]["choices"][0]["message"]["content"] == TEXT
    assert record["timing"]["ttft_ms"] is not None


def test_stream_with_usage_asked_for(call):
    chunks = list(call.client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, stream=True, stream_options={"include_usage": True}))
    assert chunks[-1].usage.completion_tokens == len(WORDS) and chunks[-1].choices == []
    assert call.record()["usage"]["source"] == "provider"


def test_usage_that_was_declined_stays_away(call):
    chunks = list(call.client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, stream=True, stream_options={"include_usage": False}))
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    record = call.record()
    assert record["usage"]["source"] == "provider" and record["notes"]
    assert record["request"]["stream_options"] == {"include_usage": False}


@pytest.mark.parametrize("stream", [False, True])
def test_tools(call, stream):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    answer = call.client.chat.completions.create(model="gpt-4o-mini", messages=ASK, tools=tools, stream=stream)
    if stream:
        arguments = "".join(
            tool.function.arguments or "" for chunk in answer if chunk.choices
            for tool in chunk.choices[0].delta.tool_calls or [])
    else:
        arguments = answer.choices[0].message.tool_calls[0].function.arguments
    assert json.loads(arguments) == {"city": "Köln"}
    record = call.record()
    recorded = record["response"]["choices"][0]["message"]["tool_calls"][0]
    assert json.loads(recorded["function"]["arguments"]) == {"city": "Köln"} and recorded["id"] == "call_1"
    assert record["finish_reasons"] == ["tool_calls"]


def test_cancelled_stream(call):
    with call.client.chat.completions.create(model="gpt-4o-mini", messages=wish("slow"), stream=True) as stream:
        for at, _ in enumerate(stream):
            if at == 3:
                break
    record = call.record()
    assert record["outcome"] == "client_aborted"
    assert record["response"]["choices"][0]["message"]["content"].startswith(WORDS[0])


@pytest.mark.parametrize("status,kind,code", [
    (400, openai.BadRequestError, "bad"),
    (404, openai.NotFoundError, "model_not_found"),
    (429, openai.RateLimitError, "rate_limit_exceeded"),
])
def test_errors_pass_unchanged(call, status, kind, code):
    with pytest.raises(kind) as caught:
        call.client.chat.completions.create(model="gpt-4o-mini", messages=wish(f"error-{status}"))
    assert caught.value.code == code and caught.value.request_id == "req_1"
    record = call.record()
    assert record["outcome"] == "provider_error" and record["status"] == status
    assert record["error"]["source"] == "provider" and record["error"]["code"] == code


def test_retries_are_each_recorded(call):
    with pytest.raises(openai.RateLimitError):
        call.client.with_options(max_retries=2).chat.completions.create(model="gpt-4o-mini", messages=wish("error-429"))
    assert sorted(record["client"]["retry"] for record in call.records(3)) == [0, 1, 2]


def test_own_errors_are_told_apart(call):
    client = call.client.with_options(base_url=f"{call.url}/nosuch/v1")
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
    assert caught.value.code == "calltap_unknown_upstream"
    assert caught.value.response.headers["x-calltap-error"] == "1"
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert call.record()["outcome"] == "refused"


def test_embeddings(call):
    answer = call.client.embeddings.create(model="text-embedding-3-small", input="whale", encoding_format="float")
    assert answer.data[0].embedding == [0.25, -1.5]
    record = call.record()
    assert record["endpoint"] == "embeddings" and record["usage"]["input"] == 5


def test_a_large_body(call):
    messages = [{"role": "user", "content": "é🐋 " * 200_000}]
    assert call.client.chat.completions.create(model="gpt-4o-mini", messages=messages).id == "c1"
    record = call.record()
    assert record["bytes"]["request"] > 1 << 20 and record["request"]["messages"] == messages


def test_metadata_in_headers(call):
    call.client.chat.completions.create(model="gpt-4o-mini", messages=ASK, extra_headers={
        "x-calltap-customer": "M%C3%BCller", "x-calltap-tags": "beta, eu", "x-calltap-meta-Order": "7",
        "x-calltap-var-name": "Ann", "x-calltap-user-query": "whales?"})
    tags = call.record()["tags"]
    assert tags["customer"] == "Müller" and tags["labels"] == ["beta", "eu"]
    assert tags["metadata"] == {"order": "7"} and tags["inputs"] == {"name": "Ann"}
    assert tags["user_query"] == "whales?"


def test_refused_metadata_is_a_warning(call):
    answer = call.client.chat.completions.with_raw_response.create(
        model="gpt-4o-mini", messages=ASK, extra_headers={"x-calltap-log": "sometimes"})
    assert "x-calltap-log" in answer.headers["x-calltap-warning"]
    assert call.record()["outcome"] == "completed"


def test_a_call_without_content(call):
    call.client.chat.completions.create(
        model="gpt-4o-mini", messages=ASK, extra_headers={"x-calltap-log": "metadata"})
    record = call.record()
    assert record["request"] is None and record["response"] is None
    assert record["tags"]["user_query"] is None and record["usage"]["input"] == 9


def test_metadata_in_the_body(call):
    call.client.chat.completions.create(model="gpt-4o-mini", messages=ASK, extra_body={
        "calltap": {"prompt_version": "3", "context": {"documents": ["x" * 50_000]}, "metadata": {"Plan": "pro"}}})
    record = call.record()
    assert record["tags"]["prompt_version"] == "3" and record["tags"]["metadata"] == {"plan": "pro"}
    assert len(record["tags"]["context"]["documents"][0]) == 50_000
    assert "calltap" not in record["request"]


def test_metadata_in_the_path_with_the_environment_only(call):
    base = f"{call.url}/-/prompt=from-path;session={call.session}/v1"
    program = ("import openai; print(openai.OpenAI().chat.completions.create("
               "model='gpt-4o-mini', messages=[{'role': 'user', 'content': 'hi'}]).choices[0].message.content)")
    environment = os.environ | {"OPENAI_BASE_URL": base, "OPENAI_API_KEY": "sk-env", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert done.stdout.decode().strip() == TEXT
    assert call.record()["tags"]["prompt"] == "from-path"


def test_fifty_at_once(call):
    async def run():
        client = openai.AsyncOpenAI(
            base_url=f"{call.url}/v1", api_key="sk-test", default_headers={"x-calltap-session": call.session})

        async def one(at):
            if at % 2:
                stream = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK, stream=True)
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
            answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASK)
            return answer.choices[0].message.content

        return await asyncio.gather(*(one(at) for at in range(50)))

    assert asyncio.run(run()) == [TEXT] * 50
    assert {record["outcome"] for record in call.records(50)} == {"completed"}

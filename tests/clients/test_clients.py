"""The same cases for every client library: what it returned, and what calltap recorded.

A client is a file in `adapters/`, with these names:

    PACKAGE   the distribution whose version counts      SDK, AGENT  what `client` of its records says
    ENDPOINT  where its plain calls go, if not chat      WITHOUT     cases that it cannot pass, and why
    connect(base, headers, retries)                      a client of whatever kind
    plain, stream, tools, structured, responses, embed   what it offers of these, given that client and a prompt

Without a base, `connect` is to find it, and the key, in the environment.
"""

import asyncio
import importlib
import importlib.metadata
import pathlib
import re
import uuid

import pytest

from calls import SLUG
from provider import MODEL, VECTOR, WORDS

TEXT = "".join(WORDS)
ASK = "Do whales sing für mich? 🐋"
CITY = {"city": "Köln"}
# 9 × $0.15 a million, and $0.60 a million for each token of the answer
COST = {3: "0.00000315", 6: "0.00000495"}


def installed():
    for path in sorted(pathlib.Path(__file__).with_name("adapters").glob("*.py")):
        package = re.search(r'^PACKAGE = "(.+)"$', path.read_text(), re.M)[1]
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        yield pytest.param(importlib.import_module(f"adapters.{path.stem}"), id=path.stem)


pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(params=installed())
def adapter(request):
    if request.node.originalname in getattr(request.param, "WITHOUT", ()):
        pytest.skip(f"{request.param.PACKAGE} cannot")
    return request.param


def offered(adapter, name):
    return getattr(adapter, name, None) or pytest.skip(f"{adapter.PACKAGE} has no {name}")


def connect(adapter, calls, retries=0):
    return adapter.connect(calls.base, calls.headers, retries)


async def gathered(pieces):
    return "".join([piece async for piece in pieces])


def check(adapter, calls, record, output=len(WORDS), endpoint=None):
    """What holds for the record of every answered call."""
    assert record["outcome"] == "completed" and record["status"] == 200
    assert record["endpoint"] == (endpoint or getattr(adapter, "ENDPOINT", "chat.completions"))
    assert record["model"] == {"requested": "gpt-4o-mini", "served": MODEL}
    assert (record["usage"]["source"], record["usage"]["input"], record["usage"]["output"]) == ("provider", 9, output)
    assert (record["cost"]["status"], record["cost"]["total"]) == ("priced", COST[output])
    check_caller(adapter, calls, record)


def check_caller(adapter, calls, record):
    sdk = adapter.SDK if isinstance(adapter.SDK, str) else adapter.SDK[record["endpoint"]]
    assert record["tags"]["session"] == calls.session and record["tags"]["prompt"] == SLUG
    assert record["client"]["sdk"] == sdk and record["client"]["key"].startswith("fp_")
    assert re.match(adapter.AGENT, record["client"]["user_agent"]), record["client"]


def said(record):
    """The text of a recorded answer, whichever endpoint gave it."""
    if record["endpoint"] == "responses":
        return "".join(part["text"] for item in record["response"]["output"] for part in item.get("content") or [])
    return record["response"]["choices"][0]["message"]["content"]


def called(record):
    """The arguments of a recorded tool call."""
    if record["endpoint"] == "responses":
        return next((item["arguments"] for item in record["response"]["output"] if item["type"] == "function_call"), None)
    calls = record["response"]["choices"][0]["message"].get("tool_calls")
    return calls and calls[0]["function"]["arguments"]


def status_of(error):
    """The HTTP status in an exception, or in one that it came from."""
    while error is not None:
        for holder in (error, getattr(error, "response", None)):
            status = getattr(holder, "status_code", None) or getattr(holder, "status", None)
            if isinstance(status, int):
                return status
        error = error.__cause__ or error.__context__
    return None


def test_plain(adapter, calls):
    assert asyncio.run(adapter.plain(connect(adapter, calls), ASK)) == TEXT
    record = calls.record()
    check(adapter, calls, record)
    assert said(record) == TEXT and not record["stream"]
    assert ASK in record["tags"]["user_query"]


def test_stream(adapter, calls):
    stream = offered(adapter, "stream")
    assert asyncio.run(gathered(stream(connect(adapter, calls), ASK))) == TEXT
    record = calls.record()
    check(adapter, calls, record)
    assert said(record) == TEXT and record["stream"]
    assert record["timing"]["ttft_ms"] is not None


def test_cancelled_stream(adapter, calls):
    stream = offered(adapter, "stream")

    async def run():
        pieces, seen = stream(connect(adapter, calls), f"{ASK} wish:slow"), 0
        async for _ in pieces:
            seen += 1
            if seen == 3:
                break
        await pieces.aclose()
        del pieces
        await asyncio.to_thread(calls.record)

    asyncio.run(run())
    record = calls.record()
    # The provider sent no usage: an estimate may stand there, or nothing, but not a figure that it never gave.
    assert record["outcome"] == "client_aborted" and record["usage"]["source"] != "provider"
    assert said(record).startswith(WORDS[0])
    check_caller(adapter, calls, record)


def test_tools(adapter, calls):
    tools = offered(adapter, "tools")
    assert asyncio.run(tools(connect(adapter, calls), ASK)) == CITY
    first, *rest = calls.records(at_least=True)
    check(adapter, calls, first, output=3)
    assert called(first) == '{"city":"Köln"}'
    for record in rest:
        check(adapter, calls, record)


def test_structured_output(adapter, calls):
    structured = offered(adapter, "structured")
    assert asyncio.run(structured(connect(adapter, calls), ASK)) == CITY
    record = calls.record()
    check(adapter, calls, record, output=3)
    assert (called(record) or said(record)) == '{"city":"Köln"}'


def test_responses(adapter, calls):
    responses = offered(adapter, "responses")
    assert asyncio.run(responses(connect(adapter, calls), ASK)) == TEXT
    record = calls.record()
    check(adapter, calls, record, endpoint="responses")
    assert said(record) == TEXT and ASK in record["tags"]["user_query"]


def test_embeddings(adapter, calls):
    embed = offered(adapter, "embed")
    assert asyncio.run(embed(connect(adapter, calls), ["whale", ASK])) == [VECTOR, VECTOR]
    record = calls.record()
    assert record["endpoint"] == "embeddings" and record["outcome"] == "completed"
    assert record["model"]["requested"] == "text-embedding-3-small"
    # 5 × $0.02 a million
    assert record["usage"]["input"] == 5 and record["cost"]["total"] == "0.0000001"
    check_caller(adapter, calls, record)


def test_a_compressed_answer(adapter, calls):
    assert asyncio.run(adapter.plain(connect(adapter, calls), f"{ASK} wish:gzip")) == TEXT
    record = calls.record()
    check(adapter, calls, record)
    assert said(record) == TEXT


def test_comments_in_a_stream(adapter, calls):
    stream = offered(adapter, "stream")
    assert asyncio.run(gathered(stream(connect(adapter, calls), f"{ASK} wish:quiet"))) == TEXT
    record = calls.record()
    check(adapter, calls, record)
    # The provider says nothing but comments for a quarter of a second; the first token comes after that.
    assert said(record) == TEXT and record["timing"]["ttft_ms"] - record["timing"]["first_byte_ms"] > 200


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_error_answers(adapter, calls, status):
    with pytest.raises(Exception) as caught:
        asyncio.run(adapter.plain(connect(adapter, calls), f"{ASK} wish:error-{status}"))
    assert status_of(caught.value) == status, caught.value
    assert "the provider says" in str(caught.value)
    record = calls.record()
    assert record["outcome"] == "provider_error" and record["status"] == status
    assert record["error"]["source"] == "provider" and record["error"]["message"].startswith("the provider says")
    check_caller(adapter, calls, record)


def test_retry_after_429(adapter, calls):
    prompt = f"{ASK} wish:busy-{uuid.uuid4().hex}"
    assert asyncio.run(adapter.plain(connect(adapter, calls, retries=2), prompt)) == TEXT
    refused, answered = calls.records(2)
    assert refused["status"] == 429 and refused["outcome"] == "provider_error"
    check_caller(adapter, calls, refused)
    check(adapter, calls, answered)


@pytest.mark.parametrize("fault, outcome", [
    # Also where the library closes at the error, before the stream has ended.
    ("broken", "provider_error"),
    ("cut", "upstream_truncated"),
])
def test_fault_inside_a_stream(adapter, calls, fault, outcome):
    stream = offered(adapter, "stream")
    pieces = stream(connect(adapter, calls), f"{ASK} wish:{fault}")
    with pytest.raises(Exception):
        asyncio.run(gathered(pieces))
    record = calls.record()
    assert record["outcome"] == outcome
    check_caller(adapter, calls, record)


def test_a_large_body(adapter, calls):
    prompt = "é🐋 " * 160_000
    assert asyncio.run(adapter.plain(connect(adapter, calls), prompt)) == TEXT
    record = calls.record()
    check(adapter, calls, record)
    assert record["bytes"]["request"] > 1 << 20
    assert prompt.strip() in str(record["request"].get("messages") or record["request"]["input"])


def test_the_environment_only_with_metadata_in_the_path(adapter, calls, monkeypatch):
    base = f"{calls.url}/-/prompt={SLUG};session={calls.session}/v1"
    for name in ("OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.setenv(name, base)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    assert asyncio.run(adapter.plain(adapter.connect(None, {}, 0), ASK)) == TEXT
    check(adapter, calls, calls.record())

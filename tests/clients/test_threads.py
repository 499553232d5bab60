"""Conversations with the official library's Assistants: a record for every message, with its run's tokens."""

import json
import time
import urllib.parse
import urllib.request

import openai
import pytest

QUESTIONS = ["who sings there", "why", "and where to"]
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def records(url, thread, count):
    """The records of the thread's messages, oldest first."""
    query = urllib.parse.urlencode({"q": f"endpoint:assistants.message session:{thread}", "limit": 1000})
    deadline = time.monotonic() + 10
    while True:
        rows = json.load(urllib.request.urlopen(f"{url}/api/v1/calls?{query}"))["items"]
        if len(rows) >= count:
            assert len(rows) == count
            return [json.load(urllib.request.urlopen(f"{url}/api/v1/calls/{row['id']}")) for row in reversed(rows)]
        assert time.monotonic() < deadline, rows
        time.sleep(0.02)


def streamed(client, thread):
    with client.beta.threads.runs.stream(thread_id=thread, assistant_id="asst_1") as stream:
        return "".join(stream.text_deltas)


def polled(client, thread):
    run = client.beta.threads.runs.create_and_poll(thread_id=thread, assistant_id="asst_1", poll_interval_ms=10)
    assert run.status == "completed"
    return client.beta.threads.messages.list(thread).data[0].content[0].text.value


@pytest.mark.parametrize("turn", [streamed, polled])
@pytest.mark.parametrize("restarts", [False, True])
def test_three_turns(calltap, turn, restarts):
    client = openai.OpenAI(base_url=f"{calltap.url}/v1", api_key="sk-test-key", max_retries=0,
                           default_headers={"x-calltap-prompt": "tutor"})
    thread = client.beta.threads.create().id
    for question in QUESTIONS:
        client.beta.threads.messages.create(thread, role="user", content=question)
        if restarts:
            calltap.restart()
        answer = turn(client, thread)
        assert answer.split() == question.split()[::-1]
        client.beta.threads.messages.list(thread)
    for question, record in zip(QUESTIONS, records(calltap.url, thread, 3), strict=True):
        words = question.split()
        assert record["tags"]["session"] == thread and record["tags"]["user_query"] == question
        assert record["tags"]["prompt"] == "tutor"
        assert record["response"]["content"][0]["text"]["value"].split() == words[::-1]
        assert (record["usage"]["input"], record["usage"]["output"]) == (10, len(words))
        assert record["cost"]["status"] == "priced" and record["outcome"] == "completed"
        assert record["stream"] == (turn is streamed)

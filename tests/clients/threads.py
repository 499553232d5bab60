"""The Assistants part of the provider: every run answers the last question of its thread."""

import itertools
import json

COUNT = itertools.count(1)
THREADS, RUNS = {}, {}
CREATED = 1_700_000_000


def message(thread, role, text, run=None):
    item = {"id": f"msg_{next(COUNT)}", "object": "thread.message", "created_at": CREATED + next(COUNT), "thread_id": thread,
            "run_id": run, "assistant_id": run and "asst_1", "role": role, "status": "completed", "metadata": {},
            "attachments": [], "content": [{"type": "text", "text": {"value": text, "annotations": []}}]}
    THREADS[thread].append(item)
    return item


def finish(run):
    if run["status"] == "completed":
        return
    words = run["question"].split()
    message(run["thread_id"], "assistant", " ".join(reversed(words)), run["id"])
    usage = {"prompt_tokens": 10, "completion_tokens": len(words), "total_tokens": 10 + len(words)}
    run.update(status="completed", completed_at=CREATED + 1, usage=usage)


def events(run):
    yield "thread.run.created", run
    finish(run)
    whole = THREADS[run["thread_id"]][-1]
    yield "thread.message.created", whole | {"status": "in_progress", "content": []}
    for at, word in enumerate(whole["content"][0]["text"]["value"].split()):
        text = {"value": word if at == 0 else f" {word}"}
        yield "thread.message.delta", {"id": whole["id"], "object": "thread.message.delta",
                                       "delta": {"content": [{"index": 0, "type": "text", "text": text}]}}
    yield "thread.message.completed", whole
    yield "thread.run.completed", run


def stream(run):
    """The events as one body."""
    text = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events(run))
    return (text + "event: done\ndata: [DONE]\n\n").encode()


def answer(method, path, request):
    """What stands at a path: an object, or the bytes of a stream."""
    match [method, *path.split("?")[0].split("/threads")[1].strip("/").split("/")]:
        case ["POST", ""]:
            thread = f"thread_{next(COUNT)}"
            THREADS[thread] = []
            return {"id": thread, "object": "thread", "created_at": CREATED, "metadata": {}}
        case ["POST", thread, "messages"]:
            return message(thread, request["role"], request["content"])
        case ["GET", thread, "messages"]:
            return {"object": "list", "data": THREADS[thread][::-1], "has_more": False}
        case ["POST", thread, "runs"]:
            question = THREADS[thread][-1]["content"][0]["text"]["value"]
            run = {"id": f"run_{next(COUNT)}", "object": "thread.run", "thread_id": thread, "assistant_id": "asst_1",
                   "created_at": CREATED, "status": "queued", "model": "gpt-4o", "instructions": "", "tools": [],
                   "metadata": {}, "parallel_tool_calls": True, "usage": None, "question": question}
            RUNS[run["id"]] = run
            return stream(run) if request.get("stream") else run
        case ["GET", _, "runs", run]:
            seen = dict(RUNS[run])
            finish(RUNS[run])
            return seen

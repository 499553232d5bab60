"""A small provider of the OpenAI API that does what a prompt asks for, over raw sockets.

A prompt with `wish:slow`, `wish:error-503`, `wish:busy-x` (429 the first time), `wish:broken` (an error
inside the stream), `wish:cut` (a stream that ends early), `wish:gzip` (a compressed answer) or `wish:quiet`
(comments before the first event and between them) gets it; any other is answered.
"""

import asyncio
import base64
import gzip
import json
import re
import struct
import sys

import responses
import threads

WORDS = ["Whales ", "sing ", "für ", "dich ", "🐋", "."]
MODEL = "gpt-4o-mini-2024-07-18"
ARGUMENTS = ['{"ci', 'ty":"Kö', 'ln"}']
VECTOR = [0.25, -1.5]
CODES = {400: ("bad", "invalid_request_error"), 401: ("invalid_api_key", "invalid_request_error"),
         404: ("model_not_found", "invalid_request_error"), 429: ("rate_limit_exceeded", "rate_limit_error")}
SEEN = set()


def usage(words):
    return {"prompt_tokens": 9, "completion_tokens": words, "total_tokens": 9 + words}


def answer(status, body, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": len(body)} | dict(headers)
    lines = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def fault(status):
    code, kind = CODES.get(status, ("overloaded", "server_error"))
    return {"message": f"the provider says {code}", "type": kind, "param": None, "code": code}


def error(status):
    return answer(status, {"error": fault(status)}, [("retry-after-ms", "10"), ("x-request-id", "req_1")])


def wanted(request):
    """What the answer is made of: the name of the tool to call, or the pieces of the text."""
    told = json.dumps(request.get("messages") or request.get("input"))
    if request.get("tools") and '"tool"' not in told and "function_call_output" not in told:
        tool = request["tools"][0]
        return tool.get("function", tool)["name"], ARGUMENTS
    form = request.get("response_format") or (request.get("text") or {}).get("format") or {}
    return None, ARGUMENTS if form.get("type") in ("json_schema", "json_object") else WORDS


def completion(request):
    tool, pieces = wanted(request)
    text = {"role": "assistant", "content": "".join(pieces), "refusal": None}
    if tool:
        call = {"id": "call_1", "type": "function", "function": {"name": tool, "arguments": "".join(pieces)}}
        text = {"role": "assistant", "content": None, "tool_calls": [call]}
    choice = {"index": 0, "message": text, "finish_reason": "tool_calls" if tool else "stop", "logprobs": None}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": MODEL, "choices": [choice],
            "usage": usage(len(pieces))}


def text_completion(request):
    choice = {"index": 0, "text": "".join(WORDS), "finish_reason": "stop", "logprobs": None}
    return {"id": "cmpl_1", "object": "text_completion", "created": 1, "model": request["model"], "choices": [choice],
            "usage": usage(len(WORDS))}


def chunks(request, wish):
    """The data of a streamed completion's events."""
    tool, pieces = wanted(request)
    asked = (request.get("stream_options") or {}).get("include_usage") is True

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        out = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
        return out | ({"usage": None} if asked else {})

    yield chunk({"role": "assistant", "content": None if tool else ""})
    if tool:
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": tool, "arguments": ""}}
        yield chunk({"tool_calls": [call]})
    for at, piece in enumerate(pieces * (100 if wish == "slow" else 1)):
        if at == 3 and wish == "broken":
            yield {"error": fault(500)}
            return
        yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} if tool else {"content": piece})
    yield chunk({}, "tool_calls" if tool else "stop")
    if asked:
        yield chunk({}) | {"choices": [], "usage": usage(len(pieces))}
    yield "[DONE]"


async def stream(writer, events, wish):
    async def put(event):
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()

    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    for at, data in enumerate(events):
        if at == 4 and wish == "cut":
            raise ConnectionError
        for _ in range((5 if at == 0 else 1) if wish == "quiet" else 0):
            await put(b": still waiting\n\n")
            await asyncio.sleep(0.05 if at == 0 else 0)
        name = f"event: {data['type']}\n" if "type" in data else ""
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        await put(f"{name}data: {text}\n\n".encode())
        await asyncio.sleep(0.02 if wish == "slow" else 0)
    writer.write(b"0\r\n\r\n")


def embeddings(request):
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    packed = base64.b64encode(struct.pack("<2f", *VECTOR)).decode()
    vector = packed if request.get("encoding_format") == "base64" else VECTOR
    data = [{"object": "embedding", "index": at, "embedding": vector} for at in range(len(texts))]
    return {"object": "list", "model": request["model"], "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}


async def serve(writer, method, path, body):
    request = json.loads(body) if body else {}
    found = re.search(rb"wish:([\w-]+)", body)
    wish = found[1].decode() if found else ""
    if wish.startswith("busy-") and wish not in SEEN:
        SEEN.add(wish)
        wish = "error-429"
    if wish.startswith("error-"):
        writer.write(error(int(wish.removeprefix("error-"))))
    elif "/threads" in path:
        found = threads.answer(method, path, request)
        kind = [("content-type", "text/event-stream")] if isinstance(found, bytes) else []
        writer.write(answer(200, found, kind))
    elif path.endswith("/embeddings"):
        writer.write(answer(200, embeddings(request)))
    elif wish == "gzip":
        whole = responses.response(MODEL, *wanted(request)) if path.endswith("/responses") else completion(request)
        writer.write(answer(200, gzip.compress(json.dumps(whole).encode()), [("content-encoding", "gzip")]))
    elif path.endswith("/images/generations"):
        writer.write(answer(200, {"created": 1, "data": [{"b64_json": "AAAA"}]}))
    elif path.endswith("/v1/completions"):
        writer.write(answer(200, text_completion(request)))
    elif path.endswith("/responses"):
        whole = responses.response(MODEL, *wanted(request))
        if request.get("stream"):
            await stream(writer, responses.events(whole, *wanted(request), wish, fault(500)), wish)
        else:
            writer.write(answer(200, whole))
    elif request.get("stream"):
        await stream(writer, chunks(request, wish), wish)
    else:
        writer.write(answer(200, completion(request)))


async def handle(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path = head[0].split(" ")[:2]
            headers = {n.lower(): v.strip() for n, v in (line.split(":", 1) for line in head[1:] if ":" in line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            await serve(writer, method, path.split("?")[0], body)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(handle, "127.0.0.1", 0, limit=1 << 24)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        sys.exit(0)

"""A small provider of the OpenAI API that does what a test asks for, over raw sockets."""

import asyncio
import json
import sys

import threads

WORDS = ["Whales ", "sing ", "für ", "dich ", "🐋", "."]
MODEL = "gpt-4o-mini-2024-07-18"


def usage(words):
    return {"prompt_tokens": 9, "completion_tokens": words, "total_tokens": 9 + words}


def answer(status, body, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"content-type": "application/json", "content-length": len(body)} | dict(headers)
    lines = [f"HTTP/1.1 {status} X"] + [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def error(status, code, kind, headers=()):
    message = {"message": f"the provider says {code}", "type": kind, "param": None, "code": code}
    return answer(status, {"error": message}, headers)


def message(request):
    if request.get("tools"):
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"Köln"}'}}
        return {"role": "assistant", "content": None, "tool_calls": [call]}, "tool_calls"
    return {"role": "assistant", "content": "".join(WORDS)}, "stop"


async def stream(writer, request, slow):
    asked = (request.get("stream_options") or {}).get("include_usage") is True
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")

    async def send(data):
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        event = f"data: {text}\n\n".encode()
        writer.write(b"%x\r\n%s\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(slow)

    def chunk(delta, finish=None):
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        out = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": [choice]}
        return out | ({"usage": None} if asked else {})

    await send(chunk({"role": "assistant", "content": ""}))
    if request.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
        await send(chunk({"tool_calls": [call]}))
        for part in ['{"ci', 'ty":"Kö', 'ln"}']:
            await send(chunk({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
        await send(chunk({}, "tool_calls"))
    else:
        for word in WORDS * (100 if slow else 1):
            await send(chunk({"content": word}))
        await send(chunk({}, "stop"))
    if asked:
        last = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": MODEL, "choices": []}
        await send(last | {"usage": usage(len(WORDS))})
    await send("[DONE]")
    writer.write(b"0\r\n\r\n")


async def handle(reader, writer):
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            method, path = head[0].split(" ")[:2]
            headers = {n.lower(): v.strip() for n, v in (line.split(":", 1) for line in head[1:] if ":" in line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            request = json.loads(body) if body else {}
            model = request.get("model", "")
            if model.startswith("error-"):
                status = int(model.removeprefix("error-"))
                code, kind = {400: ("bad", "invalid_request_error"), 404: ("model_not_found", "invalid_request_error")}.get(
                    status, ("rate_limit_exceeded", "rate_limit_error"))
                writer.write(error(status, code, kind, [("retry-after-ms", "10"), ("x-request-id", "req_1")]))
            elif "/threads" in path:
                found = threads.answer(method, path, request)
                kind = [("content-type", "text/event-stream")] if isinstance(found, bytes) else []
                writer.write(answer(200, found, kind))
            elif path.endswith("/embeddings"):
                vectors = [{"object": "embedding", "index": 0, "embedding": [0.25, -1.5]}]
                writer.write(answer(200, {"object": "list", "model": model, "data": vectors,
                                          "usage": {"prompt_tokens": 5, "total_tokens": 5}}))
            elif request.get("stream"):
                await stream(writer, request, 0.02 if model == "slow" else 0)
            else:
                text, finish = message(request)
                writer.write(answer(200, {
                    "id": "c1", "object": "chat.completion", "created": 1, "model": MODEL, "usage": usage(len(WORDS)),
                    "choices": [{"index": 0, "message": text, "finish_reason": finish}]}))
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

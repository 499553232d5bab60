"""The Responses part of the provider."""


def items(tool, pieces, status="completed"):
    """The one output item, and what its part holds once it is whole."""
    text = "".join(pieces)
    if tool:
        return {"id": "fc_1", "type": "function_call", "status": status, "call_id": "call_1", "name": tool, "arguments": text}
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": [part]}


def response(model, tool, pieces):
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    return {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": model, "error": None,
            "incomplete_details": None, "instructions": None, "metadata": {}, "output": [items(tool, pieces)],
            "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0,
            "usage": {"input_tokens": 9, "output_tokens": len(pieces), "total_tokens": 9 + len(pieces), **details}}


def events(whole, tool, pieces, wish, fault):
    """The events of a streamed response, each with its number."""
    for at, event in enumerate(unnumbered(whole, tool, pieces, wish, fault)):
        yield event | {"sequence_number": at}


def unnumbered(whole, tool, pieces, wish, fault):
    item = items(tool, pieces)
    begun = item | {"status": "in_progress"} | ({"arguments": ""} if tool else {"content": []})
    place = {"item_id": item["id"], "output_index": 0}
    kind = "response.function_call_arguments" if tool else "response.output_text"
    if not tool:
        place |= {"content_index": 0}
    started = whole | {"status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "response": started}
    yield {"type": "response.output_item.added", "output_index": 0, "item": begun}
    if not tool:
        yield {"type": "response.content_part.added", **place, "part": item["content"][0] | {"text": ""}}
    for at, piece in enumerate(pieces * (100 if wish == "slow" else 1)):
        if at == 3 and wish == "broken":
            yield {"type": "error", "code": fault["code"], "message": fault["message"], "param": None}
            return
        yield {"type": f"{kind}.delta", **place, "delta": piece, **({} if tool else {"logprobs": []})}
    if tool:
        yield {"type": f"{kind}.done", **place, "name": tool, "arguments": item["arguments"]}
    else:
        yield {"type": f"{kind}.done", **place, "text": item["content"][0]["text"], "logprobs": []}
        yield {"type": "response.content_part.done", **place, "part": item["content"][0]}
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed", "response": whole}

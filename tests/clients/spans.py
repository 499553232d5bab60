"""One call of each endpoint, and what every profile has to say of it."""

import json
import urllib.error
import urllib.request

from provider import ARGUMENTS, MODEL, WORDS

PROFILES = ["genai-1.36", "genai-1.41", "genai-latest", "openinference"]
SCHEMAS = {"genai-1.36": "https://opentelemetry.io/schemas/1.36.0", "genai-1.41": "https://opentelemetry.io/schemas/1.41.0"}
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TAGS = {"x-calltap-session": "s1", "x-calltap-prompt": "greet", "x-calltap-prompt-version": "3", "x-calltap-user": "u7",
        "x-calltap-env": "test", "x-calltap-meta-plan": "pro", "x-calltap-var-order": "77",
        "traceparent": f"00-{TRACE}-{PARENT}-01"}
TEXT, ASKED = "".join(WORDS), "Do whales sing? 🐋"
WEATHER = {"name": "weather", "description": "Weather of a city", "parameters": {"type": "object"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "".join(ARGUMENTS)}}

CALLS = {
    "chat": ("/chat/completions", {
        "model": "gpt-4o-mini", "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": ASKED}],
        "temperature": 0.5, "max_tokens": 50, "stop": "END", "seed": 7, "response_format": {"type": "text"}}),
    "tools": ("/chat/completions", {
        "model": "gpt-4o-mini", "messages": [{"role": "user", "content": ASKED}], "stream": True,
        "tools": [{"type": "function", "function": WEATHER}]}),
    "response": ("/responses", {
        "model": "gpt-4o-mini", "instructions": "Be brief.", "input": ASKED, "max_output_tokens": 64,
        "reasoning": {"effort": "low"}, "previous_response_id": "resp_0"}),
    "completion": ("/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": "Once", "max_tokens": 5}),
    "embedding": ("/embeddings", {
        "model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 2, "encoding_format": "float"}),
    "picture": ("/images/generations", {"model": "dall-e-3", "prompt": "a cat"}),
    "failure": ("/chat/completions", {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "wish:error-429"}]}),
}


def make(url):
    """Makes every call; gives the ids of their records by name."""
    ids = {}
    for name, (path, body) in CALLS.items():
        headers = TAGS if name == "chat" else {}
        request = urllib.request.Request(
            f"{url}/v1{path}", json.dumps(body).encode(), {"content-type": "application/json", **headers})
        try:
            answer = urllib.request.urlopen(request)
        except urllib.error.HTTPError as error:
            answer = error
        answer.read()
        ids[name] = answer.headers["x-calltap-id"]
    return ids


def texts(*said):
    return [{"role": role, "parts": [{"type": "text", "content": text}]} for role, text in said]


TOOL_CALL = [{"role": "assistant", "parts": [{"type": "tool_call", "id": "call_1", "name": "weather",
                                              "arguments": {"city": "Köln"}}]}]
# Operation, asked model, served model, tokens, finish reasons, id, messages in and out, cost.
FACTS = {
    "chat": ("chat", MODEL, (9, 6), "stop", "c1", texts(("system", "Be brief."), ("user", ASKED)), texts(("assistant", TEXT))),
    "tools": ("chat", MODEL, (9, 3), "tool_calls", "c1", texts(("user", ASKED)), TOOL_CALL),
    "response": ("chat", MODEL, (9, 6), "stop", "resp_1", texts(("user", ASKED)), texts(("assistant", TEXT))),
    "completion": ("text_completion", "gpt-3.5-turbo-instruct", (9, 6), "stop", "cmpl_1", texts(("user", "Once")),
                   texts(("assistant", TEXT))),
    "embedding": ("embeddings", "text-embedding-3-small", (5, None), None, None, None, None),
    "picture": ("generate_content", None, (None, None), None, None, texts(("user", "a cat")),
                texts(("assistant", '{"images":1}'))),
    "failure": ("chat", None, (None, None), None, None, texts(("user", "wish:error-429")), None),
}


def shared(name, record, port):
    """What stands in every profile."""
    path, body = CALLS[name]
    attributes = {
        "server.address": "127.0.0.1", "server.port": port, "calltap.gateway": True, "calltap.record_id": record["id"],
        "calltap.endpoint": path[1:].replace("/", "."), "calltap.upstream": record["upstream"],
        "calltap.outcome": "provider_error" if name == "failure" else "completed",
    }
    if record["cost"]["status"] == "priced":
        attributes["calltap.cost.usd"] = float(record["cost"]["total"])
    if name == "chat":
        attributes |= {"user.id": "u7", "deployment.environment.name": "test", "calltap.metadata.plan": "pro"}
    if name == "response":
        attributes["calltap.metadata.previous_response_id"] = "resp_0"
    if name == "failure":
        attributes["error.type"] = "rate_limit_exceeded"
    return attributes


def genai(profile, name, record):
    """Name, attributes and events in one of OpenTelemetry's generations."""
    operation, served, (tokens_in, tokens_out), finish, answer, asked, said = FACTS[name]
    old, latest = profile == "genai-1.36", profile == "genai-latest"
    body = CALLS[name][1]
    attributes = {
        "gen_ai.operation.name": operation, "gen_ai.system" if old else "gen_ai.provider.name": "openai",
        "gen_ai.request.model": body["model"], "gen_ai.response.model": served, "gen_ai.response.id": answer,
        "gen_ai.response.finish_reasons": [finish] if finish else None,
        "gen_ai.usage.input_tokens": tokens_in, "gen_ai.usage.output_tokens": tokens_out,
        "gen_ai.request.max_tokens": body.get("max_tokens") or body.get("max_output_tokens"),
        "http.response.status_code": 429 if name == "failure" else 200,
    }
    if latest and name == "failure":
        attributes["gen_ai.response.finish_reasons"] = ["error"]
    if not old and operation == "chat":
        attributes["openai.api.type"] = "responses" if name == "response" else "chat_completions"
    if name == "chat":
        attributes |= {
            "gen_ai.request.temperature": 0.5, "gen_ai.request.stop_sequences": ["END"], "gen_ai.request.seed": 7,
            "gen_ai.output.type": "text", "gen_ai.conversation.id": "s1",
            "calltap.prompt.name" if old else "gen_ai.prompt.name": "greet",
            "gen_ai.prompt.version" if latest else "calltap.prompt.version": "3",
            "gen_ai.prompt.variable.order": "77" if latest else None,
        }
    if name == "tools" and not old:
        attributes |= {"gen_ai.request.stream": True, "gen_ai.tool.definitions": [{"type": "function", **WEATHER}],
                       "gen_ai.response.time_to_first_chunk": round(record["timing"]["first_byte_ms"] * 1000) / 1e6}
    if name == "response":
        details = {"gen_ai.usage.cache_read.input_tokens": 0, "gen_ai.usage.reasoning.output_tokens": 0,
                   "gen_ai.system_instructions": [{"type": "text", "content": "Be brief."}]}
        attributes |= {} if old else details
        attributes["gen_ai.conversation.id"] = record["tags"]["session"]
        if latest:
            attributes |= {"gen_ai.request.reasoning.level": "low", "gen_ai.request.previous_response.id": "resp_0"}
    if name == "embedding":
        attributes["gen_ai.request.encoding_formats"] = ["float"]
        attributes["gen_ai.embeddings.dimension.count"] = None if old else 2
    if name == "picture":
        attributes["gen_ai.output.type"] = "image"
    if profile == "genai-1.41" and said:
        reason = "tool_call" if name == "tools" else "stop"
        said = [message | {"finish_reason": reason} for message in said]
    if not old:
        attributes |= {"gen_ai.input.messages": asked, "gen_ai.output.messages": said}
    return f"{operation} {body['model']}", attributes, old_events(name, finish, asked, said) if old else []


def old_events(name, finish, asked, said):
    def words(message):
        return {"content": part["content"] for part in message["parts"] if part["type"] == "text"}

    if name == "response":
        asked = texts(("system", "Be brief.")) + asked
    events = [(f"gen_ai.{message['role']}.message", {"gen_ai.system": "openai"} | words(message)) for message in asked or []]
    for message in said or []:
        reason = {"finish_reason": finish} if finish else {}
        calls = {"tool_calls": [CALL]} if name == "tools" else {}
        events.append(("gen_ai.choice", {"gen_ai.system": "openai", "index": 0} | reason | words(message) | calls))
    return events


def openinference(name, record):
    """Name and attributes of OpenInference."""
    _, served, (tokens_in, tokens_out), finish, _, asked, said = FACTS[name]
    path, body = CALLS[name]
    embeds, completes = name == "embedding", name == "completion"
    priced = record["cost"]["status"] == "priced"
    attributes = {
        "openinference.span.kind": "EMBEDDING" if embeds else "LLM",
        "embedding.model_name" if embeds else "llm.model_name": served or body["model"],
        "embedding.invocation_parameters" if embeds else "llm.invocation_parameters": record["parameters"],
        "llm.token_count.prompt": tokens_in, "llm.token_count.completion": tokens_out,
        "llm.token_count.total": tokens_in and tokens_in + (tokens_out or 0),
        "llm.cost.total": float(record["cost"]["total"]) if priced else None,
        "llm.cost.prompt": float(record["cost"]["input"]) if priced else None,
        "llm.cost.completion": float(record["cost"]["output"]) if priced and record["cost"]["output"] else None,
        "input.mime_type": "text/plain", "input.value": {"embedding": "a\nb", "completion": "Once"}.get(name),
    }
    if asked:
        attributes["input.value"] = asked[-1]["parts"][0]["content"]
    if not embeds:
        attributes |= {"llm.request.model_name": body["model"], "llm.response.model_name": served,
                       "llm.provider": "openai", "llm.system": "openai", "llm.finish_reason": finish}
    if said and name != "tools":
        attributes |= {"output.value": said[0]["parts"][0]["content"], "output.mime_type": "text/plain"}
    if name == "chat":
        attributes |= {"session.id": "s1", "llm.prompt_template.version": "3", "calltap.prompt.name": "greet",
                       "metadata": {"plan": "pro"}}
    if name == "response":
        attributes |= {"llm.token_count.prompt_details.cache_read": 0, "llm.token_count.completion_details.reasoning": 0,
                       "session.id": record["tags"]["session"], "metadata": {"previous_response_id": "resp_0"}}
        asked = texts(("system", "Be brief.")) + asked
    if name == "tools":
        call = "llm.output_messages.0.message.tool_calls.0.tool_call"
        attributes |= {
            "output.value": {"tool_calls": [CALL]}, "output.mime_type": "application/json",
            "llm.tools.0.tool.json_schema": {"type": "function", "function": WEATHER},
            "llm.output_messages.0.message.role": "assistant", f"{call}.id": "call_1",
            f"{call}.function.name": "weather", f"{call}.function.arguments": {"city": "Köln"}}
    if embeds:
        attributes |= {"embedding.embeddings.0.embedding.text": "a", "embedding.embeddings.1.embedding.text": "b",
                       "output.value": {"embeddings": 2, "dimensions": 2}, "output.mime_type": "application/json"}
        return "CreateEmbeddings", attributes, []
    if completes:
        attributes |= {"llm.prompts.0.prompt.text": "Once", "llm.choices.0.completion.text": TEXT}
        asked = said = None
    for kind, messages in (("input", asked), ("output", said)):
        for at, message in enumerate(messages or []):
            attributes[f"llm.{kind}_messages.{at}.message.role"] = message["role"]
            attributes[f"llm.{kind}_messages.{at}.message.content"] = message["parts"][0].get("content")
    return f"{path[1:].replace('/', '.')} {body['model']}", attributes, []

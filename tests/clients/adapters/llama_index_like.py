"""LlamaIndex with its class for compatible servers."""

from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike

from adapters.openai_sync import City
from pull import pulled

PACKAGE = "llama-index-llms-openai-like"
SDK = "openai-python"
AGENT = r"(Async)?OpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"api_base": base, "api_key": "sk-test"} if base else {}
    return OpenAILike(model=MODEL, is_chat_model=True, is_function_calling_model=True, default_headers=headers,
                      max_retries=retries, **key)


def weather(city: str) -> str:
    """The weather of a city."""


async def plain(client, prompt):
    return client.complete(prompt).text


def stream(client, prompt):
    async def start(put):
        async for part in await client.astream_complete(prompt):
            await put(part.delta or "")

    return pulled(start)


async def tools(client, prompt):
    answer = client.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=prompt)
    return client.get_tool_calls_from_response(answer)[0].tool_kwargs


async def structured(client, prompt):
    return client.as_structured_llm(City).complete(prompt).raw.model_dump()

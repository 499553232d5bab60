"""LlamaIndex with its OpenAI classes."""

import llama_index.embeddings.openai
import llama_index.llms.openai
from llama_index.core.tools import FunctionTool

from adapters.openai_sync import City
from pull import pulled

PACKAGE = "llama-index-llms-openai"
SDK = "openai-python"
AGENT = r"(Async)?OpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"api_base": base, "api_key": "sk-test"} if base else {}
    return {**key, "default_headers": headers, "max_retries": retries}


def chat(client):
    return llama_index.llms.openai.OpenAI(model=MODEL, **client)


def weather(city: str) -> str:
    """The weather of a city."""


async def plain(client, prompt):
    return chat(client).complete(prompt).text


def stream(client, prompt):
    async def start(put):
        async for part in await chat(client).astream_complete(prompt):
            await put(part.delta or "")

    return pulled(start)


async def tools(client, prompt):
    llm = chat(client)
    answer = llm.chat_with_tools([FunctionTool.from_defaults(weather)], user_msg=prompt)
    return llm.get_tool_calls_from_response(answer)[0].tool_kwargs


async def structured(client, prompt):
    return chat(client).as_structured_llm(City).complete(prompt).raw.model_dump()


async def responses(client, prompt):
    return llama_index.llms.openai.OpenAIResponses(model=MODEL, **client).complete(prompt).text


async def embed(client, texts):
    return llama_index.embeddings.openai.OpenAIEmbedding(
        model="text-embedding-3-small", **client).get_text_embedding_batch(texts)

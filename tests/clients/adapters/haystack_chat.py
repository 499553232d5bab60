"""Haystack."""

from haystack.components.embedders import OpenAIDocumentEmbedder
from haystack.components.generators.chat import OpenAIChatGenerator, OpenAIResponsesChatGenerator
from haystack.dataclasses import ChatMessage, Document
from haystack.tools import create_tool_from_function
from haystack.utils import Secret

from adapters.openai_sync import City
from pull import pulled

PACKAGE = "haystack-ai"
SDK = "openai-python"
AGENT = r"(Async)?OpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"api_base_url": base, "api_key": Secret.from_token("sk-test")} if base else {}
    return {**key, "max_retries": retries, "http_client_kwargs": {"headers": headers}}


def run(generator, prompt):
    return generator.run([ChatMessage.from_user(prompt)])["replies"][0]


def weather(city: str) -> str:
    """The weather of a city."""


async def plain(client, prompt):
    return run(OpenAIChatGenerator(model=MODEL, **client), prompt).text


def stream(client, prompt):
    async def start(put):
        async def callback(chunk):
            await put(chunk.content)

        generator = OpenAIChatGenerator(model=MODEL, **client)
        await generator.run_async([ChatMessage.from_user(prompt)], streaming_callback=callback)

    return pulled(start)


async def tools(client, prompt):
    generator = OpenAIChatGenerator(model=MODEL, tools=[create_tool_from_function(weather)], **client)
    return run(generator, prompt).tool_calls[0].arguments


async def structured(client, prompt):
    generator = OpenAIChatGenerator(model=MODEL, generation_kwargs={"response_format": City}, **client)
    return City.model_validate_json(run(generator, prompt).text).model_dump()


async def responses(client, prompt):
    return run(OpenAIResponsesChatGenerator(model=MODEL, **client), prompt).text


async def embed(client, texts):
    embedder = OpenAIDocumentEmbedder(model="text-embedding-3-small", progress_bar=False, **client)
    return [document.embedding for document in embedder.run([Document(content=text) for text in texts])["documents"]]

"""Pydantic AI over chat completions."""

import openai
from pydantic_ai import Agent, Embedder
from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider

from adapters.openai_sync import City

PACKAGE = "pydantic-ai-slim"
SDK = {"chat.completions": "pydantic-ai", "responses": "pydantic-ai", "embeddings": "openai-python"}
AGENT = r"pydantic-ai/|AsyncOpenAI/Python "
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return OpenAIProvider(openai_client=openai.AsyncOpenAI(**key, default_headers=headers, max_retries=retries))


def agent(client, model=OpenAIChatModel, **options):
    return Agent(model(MODEL, provider=client), **options)


async def plain(client, prompt):
    return (await agent(client).run(prompt)).output


async def stream(client, prompt):
    async with agent(client).run_stream(prompt) as run:
        try:
            async for piece in run.stream_text(delta=True, debounce_by=None):
                yield piece
        except GeneratorExit:
            await run.cancel()


async def tools(client, prompt):
    told = []
    helped = agent(client)

    @helped.tool_plain
    def weather(city: str) -> str:
        told.append({"city": city})
        return "rain"

    await helped.run(prompt)
    return told[0]


async def structured(client, prompt):
    return (await agent(client, output_type=City).run(prompt)).output.model_dump()


async def responses(client, prompt):
    return (await agent(client, OpenAIResponsesModel).run(prompt)).output


async def embed(client, texts):
    embedder = Embedder(OpenAIEmbeddingModel("text-embedding-3-small", provider=client))
    return (await embedder.embed_documents(texts)).embeddings

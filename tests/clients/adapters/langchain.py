"""LangChain."""

import langchain_openai

from adapters.openai_sync import City

PACKAGE = "langchain-openai"
SDK = "openai-python"
AGENT = r"(Async)?OpenAI/Python |langchain"
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    return {**key, "default_headers": headers, "max_retries": retries}


def chat(client, **options):
    return langchain_openai.ChatOpenAI(model=MODEL, **client, **options)


def weather(city: str) -> str:
    """The weather of a city."""


async def plain(client, prompt):
    return chat(client).invoke(prompt).content


async def stream(client, prompt):
    async for chunk in chat(client).astream(prompt):
        yield chunk.text


async def tools(client, prompt):
    return chat(client).bind_tools([weather]).invoke(prompt).tool_calls[0]["args"]


async def structured(client, prompt):
    return chat(client).with_structured_output(City).invoke(prompt).model_dump()


async def responses(client, prompt):
    return chat(client, use_responses_api=True).invoke(prompt).text


async def embed(client, texts):
    embeddings = langchain_openai.OpenAIEmbeddings(
        model="text-embedding-3-small", check_embedding_ctx_length=False, **client)
    return embeddings.embed_documents(texts)

"""DSPy's language model."""

import json

import dspy

from adapters.openai_sync import TOOL, City
from pull import pulled

PACKAGE = "dspy"
SDK = {"chat.completions": "dspy", "responses": "dspy", "embeddings": "openai-python"}
AGENT = r"DSPy/|OpenAI/Python "
MODEL = "openai/gpt-4o-mini"


def connect(base, headers, retries):
    key = {"api_base": base, "api_key": "sk-test"} if base else {}
    return {**key, "extra_headers": headers, "num_retries": retries}


def model(client, **options):
    return dspy.LM(MODEL, cache=False, **client, **options)


async def plain(client, prompt):
    return model(client)(prompt)[0]


class Sender:
    """What DSPy sends the pieces of an answer to."""

    def __init__(self, put):
        self.put = put

    async def send(self, chunk):
        await self.put(chunk.choices[0]["delta"].get("content") or "")


def stream(client, prompt):
    async def start(put):
        with dspy.context(send_stream=Sender(put)):
            await model(client).acall(prompt)

    return pulled(start)


async def tools(client, prompt):
    return json.loads(model(client)(prompt, tools=[TOOL])[0]["tool_calls"][0]["function"]["arguments"])


async def structured(client, prompt):
    return json.loads(model(client)(prompt, response_format=City)[0])


async def responses(client, prompt):
    return model(client, model_type="responses")(prompt)[0]["text"]


async def embed(client, texts):
    return dspy.Embedder("openai/text-embedding-3-small", caching=False, **client)(texts).tolist()

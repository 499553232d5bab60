"""OpenAI Agents, which calls /v1/responses."""

import agents
import openai

from adapters.openai_sync import City

PACKAGE = "openai-agents"
SDK = "openai-agents"
AGENT = r"Agents/Python "
ENDPOINT = "responses"
MODEL = "gpt-4o-mini"


def connect(base, headers, retries):
    key = {"base_url": base, "api_key": "sk-test"} if base else {}
    client = openai.AsyncOpenAI(**key, default_headers=headers, max_retries=retries)
    return agents.OpenAIResponsesModel(MODEL, client)


def agent(client, **options):
    return agents.Agent(name="singer", model=client, **options)


async def plain(client, prompt):
    return (await agents.Runner.run(agent(client), prompt)).final_output


async def stream(client, prompt):
    run = agents.Runner.run_streamed(agent(client), prompt)
    try:
        async for event in run.stream_events():
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta":
                yield event.data.delta
    finally:
        run.cancel()


async def tools(client, prompt):
    told = []

    @agents.function_tool
    def weather(city: str) -> str:
        told.append({"city": city})
        return "rain"

    await agents.Runner.run(agent(client, tools=[weather]), prompt)
    return told[0]


async def structured(client, prompt):
    return (await agents.Runner.run(agent(client, output_type=City), prompt)).final_output.model_dump()


responses = plain

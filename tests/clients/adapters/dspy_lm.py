"""DSPy's language model."""

import dspy

PACKAGE = "dspy"
SDK = "dspy"
AGENT = r"DSPy/"
MODEL = "openai/gpt-4o-mini"


def connect(base, headers, retries):
    key = {"api_base": base, "api_key": "sk-test"} if base else {}
    return dspy.LM(MODEL, cache=False, num_retries=retries, extra_headers=headers, **key)


async def plain(client, prompt):
    return client(prompt)[0]

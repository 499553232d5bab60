"""The official library as Azure's: deployments in the path, an `api-key` header."""

import openai

from adapters.openai_sync import embed, plain, stream, structured, tools  # noqa: F401

PACKAGE = "openai"
SDK = "openai-python"
AGENT = f"AzureOpenAI/Python {openai.__version__}"
# It reads AZURE_OPENAI_ENDPOINT, which holds no path.
WITHOUT = ["test_the_environment_only_with_metadata_in_the_path"]


def connect(base, headers, retries):
    return openai.AzureOpenAI(
        azure_endpoint=base.removesuffix("/v1"), api_key="sk-test", api_version="2024-10-21",
        default_headers=headers, max_retries=retries)

"""The vendors' own models, checked against what calltap sends: the payloads of `src/sink/snapshots`.

Only the models are loaded: the packages are installed without what else they would pull in.
"""

import inspect
import json
import pathlib
import re
import sys
import types
import typing

import pydantic

SNAPSHOTS = pathlib.Path(__file__).parents[2] / "src/sink/snapshots"


def bare(name):
    """Makes a package whose own start is not run."""
    path = next(path for path in (pathlib.Path(entry) / name for entry in sys.path) if path.is_dir())
    package = types.ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package


for package in ("honeyhive", "humanloop", "athina_logger"):
    bare(package)

from athina_logger.inference_logger import InferenceLogger  # noqa: E402
from honeyhive.models.components.createmodelevent import CreateModelEvent  # noqa: E402
from honeyhive.models.components.sessionpropertiesbatch import SessionPropertiesBatch  # noqa: E402
from humanloop.prompts import raw_client  # noqa: E402
from humanloop.types.chat_message import ChatMessage  # noqa: E402
from humanloop.types.prompt_kernel_request import PromptKernelRequest  # noqa: E402
from keywordsai_sdk.keywordsai_types.log_types import KeywordsAIFullLogParams, KeywordsAILogParams  # noqa: E402
from respan_sdk.respan_types.log_types import RespanFullLogParams, RespanLogParams  # noqa: E402


def payloads(flavour):
    """Title and body of every kind of call, as a flavour sends it."""
    text = (SNAPSHOTS / f"calltap__sink__tests__{flavour}.snap").read_text()
    text = text.split("\n---\n", 1)[1]
    parts = re.split(r"^--- (.*): POST (.*)\n", text, flags=re.MULTILINE)[1:]
    return [(title, json.loads(body)) for title, _, body in zip(parts[::3], parts[1::3], parts[2::3])]


def arguments(function, body, also=()):
    """Every member is an argument that the client has, of the type it says."""
    hints = typing.get_type_hints(function)
    for name, value in body.items():
        if name in also:
            continue
        assert name in inspect.signature(function).parameters, f"the client has no {name}"
        pydantic.TypeAdapter(hints[name]).validate_python(value)


def athina(body):
    # The pages on attributes name these beside what the package has.
    arguments(InferenceLogger.log_inference, {**body, "context": {}}, also=("status_code", "error", "tags"))
    assert isinstance(body.get("context", ""), (str, dict))


def honeyhive(body):
    for event in body["model_events"]:
        CreateModelEvent.model_validate(event)
    if "session_properties" in body:
        SessionPropertiesBatch.model_validate(body["session_properties"])


def humanloop(body):
    # Their models are typed dictionaries; the answers' models check the same shapes for real.
    known = inspect.signature(raw_client.RawPromptsClient.log).parameters
    # `environment` of the body has another name there, since the query has one too.
    assert all(name in known for name in body), set(body) - set(known)
    for message in [*body.get("messages", []), *filter(None, [body.get("output_message")])]:
        ChatMessage.model_validate(message)
    PromptKernelRequest.model_validate(body["prompt"])


def keywordsai(body):
    for model in (KeywordsAILogParams, KeywordsAIFullLogParams, RespanLogParams, RespanFullLogParams):
        loaded = model.model_validate(body)
        assert loaded.latency == body["latency"]
        assert loaded.model == body["model"]


MODELS = {
    "athina": athina,
    "athina-v2": athina,
    "honeyhive": honeyhive,
    "honeyhive-seed": honeyhive,
    "humanloop": humanloop,
    "keywordsai": keywordsai,
    "respan": keywordsai,
}

"""What all tests share: a running calltap, no traffic beyond loopback, and the results for the matrix."""

import collections
import importlib.metadata
import json
import os
import sys

import pytest

from calls import Calls
from start import Running

# Libraries that report on their use, trace it, or fetch lists when imported are told not to.
os.environ |= {
    "ANONYMIZED_TELEMETRY": "False", "CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false",
    "DO_NOT_TRACK": "1", "HAYSTACK_TELEMETRY_ENABLED": "False", "HF_HUB_OFFLINE": "1", "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "OTEL_SDK_DISABLED": "true",
}
for name in [name for name in os.environ if name.lower().endswith("_proxy") or name.startswith("OPENAI_")]:
    if name != "OPENAI_AGENTS_DISABLE_TRACING":
        del os.environ[name]

LOOPBACK = ("127.0.0.1", "::1", "localhost", None)
OUTSIDE = []


def stay_on_loopback(event, arguments):
    """Refuses a connection or a look-up of a name that would leave the machine, whichever library asks for it."""
    if event not in ("socket.connect", "socket.getaddrinfo"):
        return
    host = arguments[1] if event == "socket.connect" else arguments[0]
    host = host[0] if isinstance(host, tuple) else host
    host = host.decode() if isinstance(host, bytes) else host
    if host not in LOOPBACK and not str(host).startswith("/"):
        OUTSIDE.append(host)
        raise OSError(f"the tests stay on loopback: {host}")


sys.addaudithook(stay_on_loopback)


@pytest.fixture(autouse=True)
def nothing_left_loopback():
    del OUTSIDE[:]
    yield
    assert not OUTSIDE


@pytest.fixture(scope="session")
def calltap():
    running = Running()
    yield running
    running.stop()


@pytest.fixture
def calls(calltap):
    return Calls(calltap.url)


def pytest_configure(config):
    config.matrix = collections.defaultdict(dict)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if "adapter" in getattr(item, "fixturenames", ()) and (report.when == "call" or report.outcome != "passed"):
        adapter = item.callspec.params["adapter"]
        client = f"{adapter.PACKAGE} {importlib.metadata.version(adapter.PACKAGE)}"
        case = item.originalname.removeprefix("test_").replace("_", " ")
        passed, ran = item.config.matrix[client].get(case, (0, 0))
        if report.outcome != "skipped":
            item.config.matrix[client][case] = (passed + (report.outcome == "passed"), ran + 1)


def pytest_sessionfinish(session):
    path = os.environ.get("CALLTAP_MATRIX")
    if path and session.config.matrix:
        with open(path, "w") as file:
            json.dump(session.config.matrix, file)

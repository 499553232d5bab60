"""Spans reach a collector, and mean there what they meant here: every profile, in both encodings, attribute by attribute.

They go to a receiver that reads the protocol with OpenTelemetry's own definitions, and to it by way of a collector
(`collector.txt`) where that runs here.
"""

import json
import pathlib
import socket
import subprocess
import sysconfig
import time

import pytest

from calls import Calls
from receiver import Receiver, attributes
from spans import CALLS, PARENT, PROFILES, SCHEMAS, TRACE, genai, make, openinference, shared
from start import Running, free_port

ENCODINGS = ["json", "protobuf"]
SINK = """
[sinks.{name}]
type = "otlp"
base_url = "{url}"
profile = "{profile}"
encoding = "{encoding}"
service_name = "{profile}/{encoding}"
messages = "on"
"""
CLIENT, ERROR = 3, 2


class Collector:
    """A collector that passes on what it takes, in protobuf; `None` where it does not run."""

    def __init__(self, home, url):
        import rotel

        port, grpc, self.url = free_port(), free_port(), None
        libraries = sysconfig.get_config_var("LIBDIR") or ""
        arguments = [
            pathlib.Path(rotel.__file__).parent / "rotel-agent", "start", f"--pid-file={home}/collector.pid",
            f"--log-file={home}/collector.log", f"--otlp-http-endpoint=127.0.0.1:{port}",
            f"--otlp-grpc-endpoint=127.0.0.1:{grpc}", "--exporter=otlp", "--otlp-exporter-protocol=http",
            f"--otlp-exporter-endpoint={url}"]
        self.log = open(f"{home}/collector.out", "w+")
        self.process = subprocess.Popen(
            arguments, stdout=self.log, stderr=self.log, env={"HOME": str(home), "LD_LIBRARY_PATH": libraries})
        deadline = time.monotonic() + 10
        while self.process.poll() is None and time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                self.url = f"http://127.0.0.1:{port}"
                return
            except OSError:
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


class Run:
    """calltap with a sink for each profile and encoding, and every call made once."""

    def __init__(self, home):
        self.receiver, self.collector, sinks = Receiver(), None, []
        try:
            self.collector = Collector(home, f"{self.receiver.url}/collector")
        except ImportError:
            pass
        ways = {"direct": f"{self.receiver.url}/direct"}
        if self.collector and self.collector.url:
            ways["collector"] = self.collector.url
        for way, url in ways.items():
            for at, profile in enumerate(PROFILES):
                for encoding in ENCODINGS:
                    sinks.append(SINK.format(name=f"{way}-{at}-{encoding}", url=url, profile=profile, encoding=encoding))
        for encoding in ENCODINGS:
            url = f"{self.receiver.url}/picky-{encoding}"
            sinks.append(SINK.format(name=f"picky-{encoding}", url=url, profile="genai-1.41", encoding=encoding))
        self.calltap = Running("".join(sinks))
        self.port = int(self.calltap.environment["CALLTAP_UPSTREAM"].split(":")[2].split("/")[0])
        ids = make(self.calltap.url)
        self.api = Calls(self.calltap.url)
        self.spans = {way: self.receiver.wait(f"/{way}", len(PROFILES) * len(ENCODINGS) * len(ids)) for way in ways}
        self.records = {name: self.api.read(f"calls/{id}") for name, id in ids.items()}

    def stop(self):
        self.calltap.stop()
        if self.collector:
            self.collector.stop()
        self.receiver.stop()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("collector"))
    yield run
    run.stop()


def unfold(found, expected):
    """JSON in a text as what it stands for, where that is expected."""
    folds = {name for name, value in expected.items() if isinstance(value, dict | list)}
    return {name: json.loads(value) if name in folds and isinstance(value, str) else value for name, value in found.items()}


def described(profile, name, record):
    return openinference(name, record) if profile == "openinference" else genai(profile, name, record)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("way", ["direct", "collector"])
def test_span(run, way, profile, encoding, name):
    if way not in run.spans:
        pytest.skip("the collector of collector.txt does not run here")
    record = run.records[name]
    service = f"{profile}/{encoding}"
    spans = [(schema, span) for at, schema, span in run.spans[way]
             if at == service and attributes(span.attributes)["calltap.record_id"] == record["id"]]
    (schema, span), = spans
    # The collector does not pass a scope's schema on.
    assert schema == SCHEMAS.get(profile, "") or way == "collector"
    title, expected, events = described(profile, name, record)
    expected = {name: value for name, value in (expected | shared(name, record, run.port)).items() if value is not None}
    assert (span.name, span.kind) == (title, CLIENT)
    assert unfold(attributes(span.attributes), expected) == expected
    found = [(event.name, attributes(event.attributes)) for event in span.events]
    assert [(name, unfold(found, said)) for (name, found), (_, said) in zip(found, events)] == events
    assert len(found) == len(events)
    assert len(span.span_id) == 8 and span.start_time_unix_nano < span.end_time_unix_nano
    if name == "chat":
        assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    else:
        assert (span.trace_id.hex(), span.parent_span_id) == (record["id"].replace("-", ""), b"")
    code, message = (ERROR, "the provider says rate_limit_exceeded") if name == "failure" else (0, "")
    assert (span.status.code, span.status.message) == (code, message)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_rejected_span_is_a_dead_letter_and_the_others_arrive(run, encoding):
    spans = run.receiver.wait(f"/picky-{encoding}", len(CALLS) - 1)
    found = {attributes(span.attributes)["calltap.record_id"] for _, _, span in spans}
    assert found == {record["id"] for name, record in run.records.items() if name != "picture"}
    deadline = time.monotonic() + 20
    while not (dead := run.api.read(f"sinks/picky-{encoding}/dead")["items"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert [letter["id"] for letter in dead] == [run.records["picture"]["id"]]


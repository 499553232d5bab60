"""A receiver of OTLP over HTTP: takes JSON and protobuf as the protocol has them and nothing else, and keeps the spans.

Below `/picky` it rejects spans of pictures, and says how many, which is all that the protocol lets it say.
"""

import base64
import gzip
import http.server
import json
import re
import threading
import time

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

BINARY = "application/x-protobuf"
HEX = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def from_json(body):
    """A request in JSON: protobuf's own mapping, but for ids, which are hex."""
    body = json.loads(body)
    for resource in body["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name, length in HEX.items():
                    if name in span:
                        assert re.fullmatch(f"[0-9a-f]{{{length}}}", span[name]), span
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    return json_format.ParseDict(body, ExportTraceServiceRequest())


def plain(value):
    """A value as Python has it; its type is the protocol's."""
    kind = value.WhichOneof("value")
    assert kind in ("string_value", "bool_value", "int_value", "double_value", "array_value"), value
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, kind)


def attributes(pairs):
    found = {pair.key: plain(pair.value) for pair in pairs}
    assert len(found) == len(pairs), "a name stands twice"
    return found


class Receiver:
    def __init__(self):
        self.requests, self.answered = [], []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers.get("content-encoding") == "gzip":
                    body = gzip.decompress(body)
                kind, answer = self.headers["content-type"], ExportTraceServiceResponse()
                try:
                    request = ExportTraceServiceRequest.FromString(body) if kind == BINARY else from_json(body)
                    answer.partial_success.rejected_spans = receiver.take(self.path, kind, request)
                except Exception as error:  # The test says so: calltap only tries again.
                    receiver.requests.append((self.path, kind, error))
                body = answer.SerializeToString() if kind == BINARY else json_format.MessageToJson(answer).encode()
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, path, kind, request):
        """Keeps a request, and gives how many of its spans are rejected."""
        assert path.endswith("/v1/traces") and kind in (BINARY, "application/json")
        spans = [span for resource in request.resource_spans for scope in resource.scope_spans for span in scope.spans]
        pictures = [span for span in spans if span.name.endswith("dall-e-3")]
        if path.startswith("/picky") and pictures:
            return len(pictures)
        self.requests.append((path, kind, request))
        return 0

    def spans(self, path):
        """What came below a path: service, schema and span, each span once, however often it was sent."""
        found = {}
        for at, _, request in list(self.requests):
            if at.startswith(f"{path}/"):
                assert not isinstance(request, Exception), request
                for resource in request.resource_spans:
                    service = attributes(resource.resource.attributes)["service.name"]
                    for scope in resource.scope_spans:
                        assert scope.scope.name == "calltap" and scope.scope.version
                        for span in scope.spans:
                            found[service, span.span_id] = (service, scope.schema_url, span)
        return list(found.values())

    def wait(self, path, count):
        deadline = time.monotonic() + 30
        while len(spans := self.spans(path)) < count:
            assert time.monotonic() < deadline, f"{path}: {len(spans)} of {count}"
            time.sleep(0.05)
        return spans

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

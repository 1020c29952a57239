"""A receiver of spans: OTLP over HTTP, as an OpenTelemetry collector takes it."""

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Received:
    """The spans that have come, each a dictionary, and where they are sent."""

    def __init__(self, url: str):
        self.url = url
        self.spans: list[dict[str, Any]] = []

    def of(self, trace: str, n: int) -> list[dict[str, Any]]:
        """The spans of a trace, once so many have come."""
        for _ in range(1_200):
            found = [span for span in list(self.spans) if span["trace"] == trace]
            if len(found) >= n:
                return found
            time.sleep(0.05)
        raise AssertionError(
            f"of the trace {trace} there came {[span for span in self.spans if span['trace'] == trace]}"
        )


@contextmanager
def receiving() -> Generator[Received]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                service = {each.key: each.value.string_value for each in resource.resource.attributes}
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        received.spans.append(
                            {
                                "service": service["service.name"],
                                "name": span.name,
                                "trace": span.trace_id.hex(),
                                "span": span.span_id.hex(),
                                "parent": span.parent_span_id.hex(),
                                "kind": span.kind,
                                "began": span.start_time_unix_nano,
                                "ended": span.end_time_unix_nano,
                                "attributes": {
                                    each.key: each.value.string_value or each.value.int_value
                                    for each in span.attributes
                                },
                            }
                        )
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    received = Received(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield received
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()

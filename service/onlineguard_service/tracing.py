"""Spans of requests for OpenTelemetry, and the header `traceparent`, which is read with them or without.

    with span("guard"): ...

is a part of the request that is under way in this task. Where traces are off, or this request is not sampled, it is
one object that does nothing, for 0.2 us. `begin` switches traces on for the process; the extra `otel` brings what it
needs, and the standard OTEL_* variables say where spans go and which are kept.

Source: W3C Trace Context, https://www.w3.org/TR/trace-context/. Of its two headers `tracestate` is not read, since it
is of use only to those who are asked in turn, and this service asks nobody.
"""

import contextvars
import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import onlineguard
from onlineguard.errors import MissingExtra

SAMPLER, SHARE = "parentbased_traceidratio", "0.01"  # unless OTEL_TRACES_SAMPLER says otherwise; a span takes 30 us
METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"))  # others are called HTTP

_FORM = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL).fullmatch
_NOTHING: AbstractContextManager[Any] = nullcontext()


class Place(NamedTuple):
    """A span of a trace: that of the caller, or one of this service."""

    trace: str  # 32 hexadecimal digits
    span: str  # 16
    flags: int  # 1: it is sampled

    @property
    def header(self) -> bytes:
        """As `traceparent` has it."""
        return f"00-{self.trace}-{self.span}-{self.flags:02x}".encode()


def caller(headers: Iterable[tuple[bytes, bytes]]) -> Place | None:
    """The span that a request's `traceparent` names; None without one, and where it is malformed."""
    for name, value in headers:
        if name == b"traceparent" and (found := _FORM(value)):
            version, trace, span_, flags, more = found.groups()
            if version != b"ff" and not (version == b"00" and more) and int(trace, 16) and int(span_, 16):
                return Place(trace.decode(), span_.decode(), int(flags, 16) & 1)
    return None


class _Spans:
    """Those of this process, once traces are on."""

    def __init__(self, provider: Any):
        from opentelemetry import context, trace

        self.provider, self.trace, self.context = provider, trace, context
        self.tracer = provider.get_tracer("onlineguard", onlineguard.__version__)

    @contextmanager
    def request(self, came: Place | None) -> Generator[Place]:
        trace = self.trace
        above = self.context.Context()  # of no other request that may have been under way on this connection
        if came is not None:
            there = trace.SpanContext(int(came.trace, 16), int(came.span, 16), True, trace.TraceFlags(came.flags))
            above = trace.set_span_in_context(trace.NonRecordingSpan(there), above)
        with self.tracer.start_as_current_span("HTTP", above, trace.SpanKind.SERVER) as mine:
            here = mine.get_span_context()
            yield Place(f"{here.trace_id:032x}", f"{here.span_id:016x}", int(here.trace_flags))


_spans: _Spans | None = None


def begin() -> None:
    """Trace requests from now on, as the OTEL_* variables say. Raises MissingExtra."""
    global _spans
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError:
        needed = ["opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk"]
        raise MissingExtra("`onlineguard serve --traces on`", needed, "otel") from None
    if "service.name" not in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", ""):
        os.environ.setdefault("OTEL_SERVICE_NAME", "onlineguard")
    if not os.environ.get("OTEL_TRACES_SAMPLER"):
        os.environ.update(OTEL_TRACES_SAMPLER=SAMPLER, OTEL_TRACES_SAMPLER_ARG=SHARE)
    provider = TracerProvider(resource=Resource.create({"service.version": onlineguard.__version__}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))  # what is left is sent when the process ends
    _spans = _Spans(provider)


def request(came: Place | None) -> AbstractContextManager[Place | None]:
    """The span of a request under that of its caller; without traces, the caller's."""
    return nullcontext(came) if _spans is None else _spans.request(came)


def span(name: str) -> AbstractContextManager[Any]:
    """A part of the request that is under way in this task; outside of one nothing."""
    if _spans is None or not _spans.trace.get_current_span().is_recording():
        return _NOTHING
    return _spans.tracer.start_as_current_span(name)


def told(method: str, route: str, status: int, items: int) -> None:
    """What the request under way has turned out to be."""
    if _spans is None:
        return
    mine = _spans.trace.get_current_span()
    if mine.is_recording():
        method = method if method in METHODS else "HTTP"
        mine.update_name(f"{method} {route}")
        mine.set_attributes({"http.request.method": method, "http.route": route, "http.response.status_code": status})
        if items:
            mine.set_attribute("onlineguard.items", items)
        if status >= 500:
            mine.set_status(_spans.trace.StatusCode.ERROR)


def here[**P, T](work: Callable[P, T]) -> Callable[P, T]:
    """Work that another task is to do as a part of the request under way in this one."""
    if _spans is None:
        return work
    mine = contextvars.copy_context()

    def done(*arguments: P.args, **more: P.kwargs) -> T:
        return mine.run(work, *arguments, **more)

    return done

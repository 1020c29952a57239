"""What `bench_service` could reach at best: a server that takes so much of the processor for a request, and answers.

It computes nothing and keeps nothing, so that its tail is that of the queue, of uvicorn and of the machine alone.

    python -m benchmarks.busy_service PORT MILLISECONDS
"""

import sys
import time
from typing import Any

import uvicorn


def service(seconds: float) -> Any:
    """The ASGI application."""

    async def answer(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        while (await receive()).get("more_body"):
            pass
        end = time.perf_counter() + (seconds if scope["path"] == "/v1/clicks" else 0.0)
        while time.perf_counter() < end:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"{}"})

    return answer


if __name__ == "__main__":
    uvicorn.run(service(float(sys.argv[2]) / 1_000.0), port=int(sys.argv[1]), log_level="error", access_log=False)

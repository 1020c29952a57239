"""A receiver of webhooks: a real HTTP server in a thread, which does to each message what it is told to."""

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = bytes(range(24))
SECRET = "whsec_" + base64.b64encode(KEY).decode()


class Receiver:
    """`answer` gives the status of the next message; it may take its time. `heard` are those that got a 200."""

    def __init__(self, answer: Callable[[], int] = lambda: 200):
        self.answer = answer
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.asked: list[str] = []  # ids, of every attempt
        self.forged: list[str] = []  # ids of messages whose signature is wrong
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver._take(dict(self.headers), body, self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # a client that did not wait

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _take(self, headers: dict[str, str], body: bytes, handler: BaseHTTPRequestHandler) -> None:
        id_, seconds = headers["webhook-id"], headers["webhook-timestamp"]
        wanted = base64.b64encode(hmac.digest(KEY, f"{id_}.{seconds}.".encode() + body, "sha256")).decode()
        if f"v1,{wanted}" not in headers["webhook-signature"].split() or abs(int(seconds) - time.time()) > 60:
            self.forged.append(id_)
        self.asked.append(id_)
        status = self.answer()
        if status == 200:
            self.heard.append((id_, json.loads(body)))
        handler.send_response(status)
        handler.send_header("content-length", "0")
        handler.end_headers()

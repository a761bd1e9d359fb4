"""A real HTTP server on this machine that speaks the OpenAI API and misbehaves on request."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, TypeVar

import pytest

KEY = "sk-test-never-written-anywhere"
Answer = tuple[int, dict[str, str], bytes]


def completion(content: str, *, finish: str = "stop") -> Answer:
    choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}
    usage = {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300}
    body = {
        "id": "c",
        "object": "chat.completion",
        "created": 0,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }
    return 200, {}, json.dumps(body).encode()


def failure(status: int, message: str = "no", *, code: str | None = None, **headers: str) -> Answer:
    error = {"error": {"message": message, "type": "error", "code": code, "param": None}}
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        json.dumps(error).encode(),
    )


class LocalServer:
    """Handles requests on a free port of this machine, in a thread, until it is stopped."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/v1"
        self.thread = threading.Thread(
            target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


class Server(LocalServer):
    """Answers with what `answers` gives for each request in turn; the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Answer | Callable[[dict[str, Any]], Answer]] = [
            completion('{"terms": ["gazebo"]}')
        ]
        self.bodies: list[dict[str, Any]] = []
        self.authorisations: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = server.answers[min(len(server.bodies), len(server.answers) - 1)]
                server.bodies.append(body)
                server.authorisations.append(self.headers["Authorization"])
                status, headers, content = answer(body) if callable(answer) else answer
                self.send_response(status)
                for name, value in {"Content-Type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Silent."""

        super().__init__(Handler)


Running = TypeVar("Running", bound=LocalServer)


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch, start: Callable[[], Running]) -> Iterator[Running]:
    """The server that `start` starts, a key in the environment, and no proxy between."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    running = start()
    try:
        yield running
    finally:
        running.stop()

"""Batches, against a real HTTP server on this machine that keeps files and batches as the API does."""

import json
import re
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import UserError
from pipeline.llm.asking import LlmOptions, Request, ask
from pipeline.llm.cache import Cache
from tests.api_server import LocalServer, serving

REQUESTS = [Request(lexicon="objects", prompt=f"Give nouns, {number}.") for number in range(3)]
Line = dict[str, Any]


def answered(custom_id: str, terms: list[str]) -> Line:
    message = {"role": "assistant", "content": json.dumps({"terms": terms})}
    usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
    body = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
    return {"custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}


def refused(custom_id: str, message: str) -> Line:
    return {
        "custom_id": custom_id,
        "response": {"status_code": 400, "body": {"error": {"message": message}}},
        "error": None,
    }


class BatchServer(LocalServer):
    """Answers each request of a batch with `answer`; a batch is done at the second look at it."""

    def __init__(self) -> None:
        self.answer: Callable[[Line], Line | None] = lambda line: answered(
            line["custom_id"], ["gazebo", "ocelot"]
        )
        self.final_status = "completed"
        self.extra_output = ""
        self.has_batches = True
        self.handed_over: list[list[Line]] = []
        self._files: dict[str, str] = {}
        self._batches: dict[str, dict[str, Any]] = {}
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send(server.post(self.path, body))

            def do_GET(self) -> None:
                self.send(server.get(self.path))

            def send(self, answer: Any) -> None:
                content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
                self.send_response(404 if answer is None else 200)
                self.send_header(
                    "Content-Type", "text/plain" if isinstance(answer, str) else "application/json"
                )
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *arguments: Any) -> None:
                """Silent."""

        super().__init__(Handler)

    def post(self, path: str, body: str) -> Any:
        if not self.has_batches:
            return None
        if path.endswith("/files"):
            name = f"file-{len(self._files)}"
            self._files[name] = "\n".join(re.findall(r'^(\{"custom_id".*\})\r?$', body, re.MULTILINE))
            return {"id": name, "object": "file", "purpose": "batch"}
        wanted = json.loads(body)
        lines = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
        self.handed_over.append(lines)
        batch = {
            "id": f"batch-{len(self._batches)}",
            "object": "batch",
            "endpoint": wanted["endpoint"],
            "metadata": wanted["metadata"],
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
        }
        self._batches[str(batch["id"])] = batch
        return batch

    def get(self, path: str) -> Any:
        path = path.partition("?")[0]
        if path.endswith("/batches"):
            return {"object": "list", "data": list(self._batches.values()), "has_more": False}
        if "/batches/" in path:
            batch = self._batches.get(path.rpartition("/")[2])
            seen = None if batch is None else dict(batch)
            if batch is not None and batch["status"] == "in_progress":
                self._finish(batch)
            return seen
        return self._files[path.split("/")[-2]]

    def _finish(self, batch: dict[str, Any]) -> None:
        batch["status"] = self.final_status
        if self.final_status != "completed":
            return
        number = int(batch["id"].rpartition("-")[2])
        made = [line for line in map(self.answer, self.handed_over[number]) if line is not None]
        for name, good in (("output", True), ("error", False)):
            lines = [json.dumps(line) for line in made if (line["response"]["status_code"] == 200) == good]
            if lines or good:
                file = f"{name}-{number}"
                self._files[file] = "\n".join(lines) + (self.extra_output if good else "")
                batch[f"{name}_file_id"] = file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[BatchServer]:
    with serving(monkeypatch, BatchServer) as running:
        yield running


def options(server: BatchServer, tmp_path: Path, **changes: Any) -> LlmOptions:
    given = {"model": "m", "base_url": server.url, "cache": tmp_path / "cache.sqlite", "batch": True}
    return LlmOptions(**{**given, **changes})


def patient(seconds: float) -> None:
    """Waits in no time."""


def stopped(seconds: float) -> None:
    raise KeyboardInterrupt


def test_one_batch_answers_everything_and_a_rerun_asks_nothing(server: BatchServer, tmp_path: Path) -> None:
    made = ask(options(server, tmp_path), REQUESTS, sleep=patient)
    assert made.terms == {"objects": ["gazebo", "ocelot"]}
    assert (made.calls, made.input_tokens, made.output_tokens, made.stopped) == (3, 60, 30, "")
    assert [len(lines) for lines in server.handed_over] == [3]
    again = ask(options(server, tmp_path), REQUESTS, sleep=patient)
    assert (again.terms, again.calls, again.cached) == (made.terms, 0, 3)
    assert ask(options(server, tmp_path, batch=False), REQUESTS).cached == 3
    assert len(server.handed_over) == 1


def test_a_stopped_run_finds_its_batch_again(server: BatchServer, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(options(server, tmp_path), REQUESTS, sleep=stopped)
    made = ask(options(server, tmp_path), REQUESTS, sleep=patient)
    assert made.calls == 3
    assert len(server.handed_over) == 1


def test_a_batch_whose_id_was_never_written_down_is_found(
    server: BatchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = Cache.keep_batch

    def killed(self: Cache, server: str, token: str, id: str | None, keys: Any) -> None:
        if id is not None:
            raise KeyboardInterrupt
        keep(self, server, token, id, keys)

    monkeypatch.setattr(Cache, "keep_batch", killed)
    with pytest.raises(KeyboardInterrupt):
        ask(options(server, tmp_path), REQUESTS, sleep=patient)
    monkeypatch.setattr(Cache, "keep_batch", keep)
    assert ask(options(server, tmp_path), REQUESTS, sleep=patient).calls == 3
    assert len(server.handed_over) == 1


@pytest.mark.parametrize("status", ["failed", "expired", "cancelled"])
def test_a_batch_that_failed_is_one_line_and_is_handed_over_anew(
    server: BatchServer, tmp_path: Path, status: str
) -> None:
    server.final_status = status
    with pytest.raises(UserError, match=status):
        ask(options(server, tmp_path), REQUESTS, sleep=patient)
    server.final_status = "completed"
    assert ask(options(server, tmp_path), REQUESTS, sleep=patient).calls == 3
    assert len(server.handed_over) == 2


def test_a_batch_the_server_has_lost_is_handed_over_anew(server: BatchServer, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        ask(options(server, tmp_path), REQUESTS, sleep=stopped)
    server._batches.clear()
    assert ask(options(server, tmp_path), REQUESTS, sleep=patient).calls == 3


def test_refusals_within_a_batch_are_learned(server: BatchServer, tmp_path: Path) -> None:
    def answer(line: Line) -> Line:
        if line["body"].get("response_format", {}).get("type") == "json_schema":
            return refused(line["custom_id"], "response_format json_schema is not supported")
        if "max_completion_tokens" in line["body"]:
            return refused(line["custom_id"], "unknown argument max_completion_tokens")
        return answered(line["custom_id"], ["gazebo"])

    server.answer = answer
    assert ask(options(server, tmp_path), REQUESTS, sleep=patient).terms == {"objects": ["gazebo"]}
    assert len(server.handed_over) == 3
    body = server.handed_over[-1][0]["body"]
    assert (body["response_format"], body["max_tokens"]) == ({"type": "json_object"}, 1_500)


def test_unanswered_requests_do_not_go_on_for_ever(server: BatchServer, tmp_path: Path) -> None:
    server.answer = lambda line: (
        answered(line["custom_id"], ["gazebo"]) if ", 0." in line["body"]["messages"][0]["content"] else None
    )
    with pytest.raises(UserError, match="only a part"):
        ask(options(server, tmp_path), REQUESTS, sleep=patient)
    assert len(server.handed_over) == 5
    assert ask(options(server, tmp_path, batch=True), REQUESTS[:1], sleep=patient).cached == 1


def test_hostile_output_is_dropped(server: BatchServer, tmp_path: Path) -> None:
    stranger = answered("someone-else", ["intruder"])
    empty = {"custom_id": "x", "response": {"status_code": 200, "body": {"choices": []}}}
    server.extra_output = "\n" + "\n".join(
        ["<html>", "null", "[" * 5_000, json.dumps(stranger), json.dumps(empty), '{"custom_id": 7}']
    )
    made = ask(options(server, tmp_path), REQUESTS, sleep=patient)
    assert made.terms == {"objects": ["gazebo", "ocelot"]}
    assert made.calls == 3


def test_limits_hand_over_a_part(server: BatchServer, tmp_path: Path) -> None:
    made = ask(options(server, tmp_path, max_tokens=1_600), REQUESTS, sleep=patient)
    assert made.stopped == "--max-tokens 1600"
    assert [len(lines) for lines in server.handed_over] == [1, 1]
    assert made.calls == 2


def test_a_server_without_batches_is_one_line(server: BatchServer, tmp_path: Path) -> None:
    server.has_batches = False
    with pytest.raises(UserError, match="no batch API"):
        ask(options(server, tmp_path), REQUESTS, sleep=patient)

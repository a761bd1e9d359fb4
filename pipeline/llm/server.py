"""One server that speaks the OpenAI API, for `llm`: the only file that imports its client.

A server is a stranger: what it says it took is believed where it can be true, an answer has a size and a time, and the
key is in nothing that comes from it. What it refuses (a JSON schema, a parameter) is learned from its answers and
remembered in the cache. Rate limits, failures and silence are waited out; a bad key, an empty account or an unknown
model end at once.
"""

import io
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pipeline.errors import UserError
from pipeline.llm.cache import Cache
from pipeline.llm.replies import printable
from pipeline.storage import parse_json, readable

Result = TypeVar("Result")
MAX_REPLY_TOKENS: Final = 1_500
MAX_ATTEMPTS: Final = 6
MAX_ANSWER_BYTES: Final = 256 * 2**20
MAX_CHARACTERS_PER_TOKEN: Final = 12
"""A server that says it took fewer tokens than this many characters each is not believed."""
SLOWER_CALLS: Final = 10
"""Times the timeout of one reply: for the files of a batch."""
MAX_BATCHES: Final = 10_000
"""Of a server's batches that are looked through."""
MAX_WAIT_SECONDS: Final = 120.0
LADDER: Final = ("json_schema", "json_object", "lines")
_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_METADATA: Final = "cleanerclip"
_NO_BATCHES: Final = "the server has no batch API: leave out --llm-batch"
_ENDPOINT: Final = "/v1/chat/completions"
_SCHEMA: Final = {
    "type": "json_schema",
    "json_schema": {
        "name": "terms",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"terms": {"type": "array", "items": {"type": "string"}}},
            "required": ["terms"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer, and what it took; None where the server does not say, or says what cannot be."""

    text: str
    input_tokens: int | None
    output_tokens: int | None


class Server:
    """A server and one model on it."""

    def __init__(
        self,
        client: Any,
        model: str,
        cache: Cache,
        sleep: Callable[[float], None],
        *,
        key: str,
        timeout_seconds: float,
    ) -> None:
        self._client = client
        self._model = model
        self._cache = cache
        self._sleep = sleep
        self._key = key
        self._timeout_seconds = timeout_seconds
        self.name = f"{client.base_url}|{model}"
        """What the cache knows it by."""

    def complete(self, prompt: str) -> Reply:
        """The reply to one prompt."""
        import openai  # noqa: TID251

        while True:  # each refusal is learned once: this cannot loop for ever
            body = self._body(prompt)
            try:
                return self._try(
                    lambda body=body: self._complete(body, prompt),  # type: ignore[misc]
                    missing=f"the server does not know the model {self._model!r}",
                    seconds=self._timeout_seconds,
                )
            except openai.BadRequestError as error:
                self._learn(body, str(error.message))

    def _complete(self, body: dict[str, Any], prompt: str) -> Reply:
        with self._client.chat.completions.with_streaming_response.create(**body) as answer:
            reply = self._reply(parse_json(_whole(answer)), prompt)
        if reply is None:
            raise ValueError("no completion")
        return reply

    def _reply(self, body: object, prompt: str | None) -> Reply | None:
        """The reply in the JSON of a completion, without the key; None where it holds none."""
        try:
            text = body["choices"][0]["message"]["content"]  # type: ignore[index]
            usage = body.get("usage")  # type: ignore[attr-defined]
        except (KeyError, IndexError, TypeError, AttributeError):
            return None
        if not isinstance(text, str | None):
            return None
        counts = usage if isinstance(usage, dict) else {}
        return Reply(
            text=self._hide(text or ""),
            input_tokens=_believed(counts.get("prompt_tokens"), prompt or ""),
            output_tokens=_believed(counts.get("completion_tokens"), text or ""),
        )

    def _hide(self, text: str) -> str:
        """The server's text without the key, should it have sent it back; lone surrogates can be written, too."""
        return readable(text.replace(self._key, "[key]"))

    def _id(self, id: object) -> str:
        """An id that the server gave, as it is shown and kept."""
        if not isinstance(id, str) or id != printable(id) or self._key in id:
            raise ValueError("an id of another shape")
        return id

    # ------------------------------------------------------------------------------------------------ batches
    def start_batch(self, token: str, prompts: dict[str, str]) -> str:
        """Hand over prompts by their keys; the id of the batch. `token` goes along, so that it can be found again."""
        import openai  # noqa: TID251

        lines = (
            json.dumps({"custom_id": key, "method": "POST", "url": _ENDPOINT, "body": self._body(prompt)})
            for key, prompt in prompts.items()
        )
        content = "\n".join(lines).encode()
        try:
            file = self._try(
                lambda: self._id(
                    self._client.files.create(
                        file=("requests.jsonl", io.BytesIO(content)), purpose="batch"
                    ).id
                ),
                missing=_NO_BATCHES,
            )
            return self._try(
                lambda: self._id(
                    self._client.batches.create(
                        input_file_id=file,
                        endpoint=_ENDPOINT,
                        completion_window="24h",
                        metadata={_METADATA: token},
                    ).id
                ),
                missing=_NO_BATCHES,
            )
        except openai.BadRequestError as error:
            told = printable(self._hide(str(error.message)))
            raise UserError(f"the server refuses the batch: {told}") from None

    def find_batch(self, token: str) -> str | None:
        """The id of the batch that was started with `token`; None where the server has none that may still answer."""

        def find() -> str | None:
            for batch in itertools.islice(self._client.batches.list(limit=100), MAX_BATCHES):
                alive = batch.status not in ("failed", "expired", "cancelled", "cancelling")
                metadata = batch.metadata if isinstance(batch.metadata, dict) else {}
                if alive and metadata.get(_METADATA) == token:
                    return self._id(batch.id)
            return None

        return self._try(find, missing=_NO_BATCHES)

    def wait_for_batch(self, id: str, *, every_seconds: float) -> Any:
        """The batch, once the server has done with it, whatever came of it; None where it has it no more."""
        import openai  # noqa: TID251

        while True:
            try:
                batch, status = self._try(lambda: _with_status(self._client.batches.retrieve(id)))
            except openai.NotFoundError:
                return None
            if status in ("completed", "failed", "expired", "cancelled"):
                return batch
            self._sleep(every_seconds)

    def batch_replies(self, batch: Any) -> Iterator[tuple[str, Reply]]:
        """Keys and replies of a finished batch; refusals in its error file are learned."""
        for line in self._lines(batch.output_file_id):
            response = line.get("response")
            body = response.get("body") if isinstance(response, dict) else None
            reply = self._reply(body, None)
            if reply is not None and isinstance(line.get("custom_id"), str):
                yield line["custom_id"], reply
        refusals = {message for line in self._lines(batch.error_file_id) for message in _refusals(line)}
        for message in sorted(refusals)[:1]:
            self._learn(self._body(""), message)

    def _lines(self, file: object) -> Iterator[dict[str, Any]]:
        if file is None:
            return
        content = self._try(lambda: self._download(self._id(file)), missing="the server lost a batch's file")
        for line in content.splitlines():
            try:
                value = parse_json(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value

    def _download(self, file: str) -> str:
        with self._client.files.with_streaming_response.content(file) as answer:
            return _whole(answer).decode("utf-8", "replace")

    # --------------------------------------------------------------------------------------- one call, tried again
    def _try(
        self, call: Callable[[], Result], *, missing: str | None = None, seconds: float | None = None
    ) -> Result:
        """What `call` gives within so many seconds, by default those for the files of a batch.

        BadRequestError goes to the caller, as does NotFoundError without a line for `missing`.
        """
        import openai  # noqa: TID251

        failure = ""
        for attempt in range(MAX_ATTEMPTS):
            retry_after = None
            try:
                return _within(seconds or SLOWER_CALLS * self._timeout_seconds, call)
            except openai.BadRequestError:
                raise
            except openai.NotFoundError:
                if missing is None:
                    raise
                raise UserError(f"{missing} (HTTP 404)") from None
            except openai.APIError as error:
                _raise_if_pointless(error)
                failure, retry_after = _failure(error)
            except TimeoutError:
                failure = "no answer in time"
            except (ValueError, AttributeError, TypeError, KeyError, RecursionError):
                failure = "an answer of another shape"
            self._sleep(_wait(retry_after, attempt))
        raise UserError(
            f"{self._model}: gave up after {MAX_ATTEMPTS} attempts ({failure}); what was answered is kept"
        )

    # -------------------------------------------------------------------------------------------- what is asked for
    def _body(self, prompt: str) -> dict[str, Any]:
        """A request without what the server refused."""
        refused = self._cache.refused(self.name)
        body: dict[str, Any] = {"model": self._model, "messages": messages(prompt)}
        form = next(step for step in LADDER if step not in refused or step == LADDER[-1])
        if form == "json_schema":
            body["response_format"] = _SCHEMA
        elif form == "json_object":
            body["response_format"] = {"type": "json_object"}
        limit = next((name for name in _LIMITS if name not in refused), None)
        if limit is not None:
            body[limit] = MAX_REPLY_TOKENS
        return body

    def _learn(self, body: dict[str, Any], message: str) -> None:
        """Note what a 400 answer refuses: a token limit it names, else the form of the reply; UserError for neither."""
        message = self._hide(message).lower()
        what: str | None = next((name for name in _LIMITS if name in body and name in message), None)
        if what is None and "response_format" in body:
            what = str(body["response_format"]["type"])
        if what is None:
            raise UserError(f"the server refuses the request: {printable(self._hide(message))}") from None
        self._cache.keep_refusal(self.name, what)


@contextmanager
def open_server(
    *, model: str, base_url: str | None, timeout_seconds: float, cache: Cache, sleep: Callable[[float], None]
) -> Iterator[Server]:
    """A server; UserError without OPENAI_API_KEY, the only place a key comes from."""
    import openai  # noqa: TID251

    key = os.environ.get("OPENAI_API_KEY")
    if not key:
        raise UserError(
            "OPENAI_API_KEY is not set: set it to your key (any word for a local server without keys)"
        )
    with openai.OpenAI(
        base_url=base_url,
        timeout=timeout_seconds,
        max_retries=0,
    ) as client:
        yield Server(client, model, cache, sleep, key=key, timeout_seconds=timeout_seconds)


def messages(prompt: str) -> list[dict[str, str]]:
    """A prompt as the API takes it."""
    return [{"role": "user", "content": prompt}]


def _raise_if_pointless(error: Exception) -> None:
    """UserError where trying again changes nothing: the key, or the account."""
    import openai  # noqa: TID251

    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        raise UserError(f"the server refuses the key in OPENAI_API_KEY (HTTP {error.status_code})") from None
    if isinstance(error, openai.RateLimitError) and error.code == "insufficient_quota":
        raise UserError("the account has no credit left (insufficient_quota)") from None


def _failure(error: Exception) -> tuple[str, str | None]:
    """What failed, in words, and how long the server asks to wait."""
    import openai  # noqa: TID251

    if isinstance(error, openai.RateLimitError):
        return "HTTP 429", error.response.headers.get("retry-after")
    return "no answer in time" if isinstance(error, openai.APITimeoutError) else type(error).__name__, None


def _believed(count: object, text: str) -> int | None:
    """A number of tokens for such a text, where it can be one."""
    known = isinstance(count, int) and not isinstance(count, bool) and count > 0
    return count if known and count * MAX_CHARACTERS_PER_TOKEN >= len(text) else None  # type: ignore[operator,return-value]


def _with_status(batch: Any) -> tuple[Any, str]:
    """A batch and its status, where it has one."""
    return batch, str(batch.status)


def _within(seconds: float, call: Callable[[], Result]) -> Result:
    """What `call` gives; TimeoutError where that takes longer, however the server spreads its bytes over the time."""
    future: Future[Result] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future.result(timeout=seconds)


def _whole(response: Any) -> bytes:
    """The bytes of an answer that has an end."""
    content = bytearray()
    for block in response.iter_bytes():
        content += block
        if len(content) > MAX_ANSWER_BYTES:
            raise ValueError("an answer without end")
    return bytes(content)


def _refusals(line: dict[str, Any]) -> Iterator[str]:
    """The message of a request within a batch that was answered with 400."""
    response = line.get("response")
    if isinstance(response, dict) and response.get("status_code") == 400:
        body = response.get("body")
        error = body.get("error") if isinstance(body, dict) else None
        yield str(error.get("message") if isinstance(error, dict) else error)


def _wait(retry_after: str | None, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time; two minutes at most."""
    try:
        return max(0.0, min(float(retry_after or ""), MAX_WAIT_SECONDS))
    except ValueError:
        return float(min(2.0**attempt, MAX_WAIT_SECONDS))

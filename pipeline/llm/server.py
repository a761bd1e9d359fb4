"""One server that speaks the OpenAI API, for `llm`: the only file that imports its client.

What the server refuses (a JSON schema, a parameter) is learned from its answers and remembered in the cache. Rate
limits, failures and silence are waited out; a bad key, an empty account or an unknown model end at once.
"""

import io
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from pipeline.errors import UserError
from pipeline.llm.cache import Cache
from pipeline.llm.replies import printable

Result = TypeVar("Result")
MAX_REPLY_TOKENS: Final = 1_500
MAX_ATTEMPTS: Final = 6
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
    """One answer, and what it took; None where the server does not say."""

    text: str
    input_tokens: int | None
    output_tokens: int | None


class Server:
    """A server and one model on it."""

    def __init__(self, client: Any, model: str, cache: Cache, sleep: Callable[[float], None]) -> None:
        self._client = client
        self._model = model
        self._cache = cache
        self._sleep = sleep
        self.name = f"{client.base_url}|{model}"
        """What the cache knows it by."""

    def complete(self, prompt: str) -> Reply:
        """The reply to one prompt."""
        import openai  # noqa: TID251

        while True:  # each refusal is learned once: this cannot loop for ever
            body = self._body(prompt)
            create = partial(self._client.chat.completions.create, **body)
            try:
                return _reply(
                    self._try(create, missing=f"the server does not know the model {self._model!r}")
                )
            except openai.BadRequestError as error:
                self._learn(body, str(error.message))

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
                lambda: self._client.files.create(
                    file=("requests.jsonl", io.BytesIO(content)), purpose="batch"
                ),
                missing=_NO_BATCHES,
            )
            batch = self._try(
                lambda: self._client.batches.create(
                    input_file_id=file.id,
                    endpoint=_ENDPOINT,
                    completion_window="24h",
                    metadata={_METADATA: token},
                ),
                missing=_NO_BATCHES,
            )
        except openai.BadRequestError as error:
            raise UserError(f"the server refuses the batch: {printable(str(error.message))}") from None
        return str(batch.id)

    def find_batch(self, token: str) -> str | None:
        """The id of the batch that was started with `token`; None where the server has none that may still answer."""
        for batch in self._try(lambda: list(self._client.batches.list(limit=100)), missing=_NO_BATCHES):
            alive = batch.status not in ("failed", "expired", "cancelled", "cancelling")
            if alive and (batch.metadata or {}).get(_METADATA) == token:
                return str(batch.id)
        return None

    def wait_for_batch(self, id: str, *, every_seconds: float) -> Any:
        """The batch, once the server has done with it, whatever came of it; None where it has it no more."""
        import openai  # noqa: TID251

        while True:
            try:
                batch = self._try(lambda: self._client.batches.retrieve(id))
            except openai.NotFoundError:
                return None
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            self._sleep(every_seconds)

    def batch_replies(self, batch: Any) -> Iterator[tuple[str, Reply]]:
        """Keys and replies of a finished batch; refusals in its error file are learned."""
        for line in self._lines(batch.output_file_id):
            body = (line.get("response") or {}).get("body")
            if isinstance(body, dict) and isinstance(line.get("custom_id"), str):
                reply = _reply_of_json(body)
                if reply is not None:
                    yield line["custom_id"], reply
        refusals = {message for line in self._lines(batch.error_file_id) for message in _refusals(line)}
        for message in sorted(refusals)[:1]:
            self._learn(self._body(""), message)

    def _lines(self, file: str | None) -> Iterator[dict[str, Any]]:
        if file is None:
            return
        content = self._try(
            lambda: self._client.files.content(file).text, missing=f"the server lost {file!r}"
        )
        for line in content.splitlines():
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield value

    # --------------------------------------------------------------------------------------- one call, tried again
    def _try(self, call: Callable[[], Result], *, missing: str | None = None) -> Result:
        """What `call` gives. BadRequestError goes to the caller, as does NotFoundError without a line for `missing`."""
        import openai  # noqa: TID251

        failure = ""
        for attempt in range(MAX_ATTEMPTS):
            retry_after = None
            try:
                return call()
            except openai.BadRequestError:
                raise
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise UserError(
                    f"the server refuses the key in OPENAI_API_KEY (HTTP {error.status_code})"
                ) from None
            except openai.NotFoundError:
                if missing is None:
                    raise
                raise UserError(f"{missing} (HTTP 404)") from None
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    raise UserError("the account has no credit left (insufficient_quota)") from None
                failure, retry_after = "HTTP 429", error.response.headers.get("retry-after")
            except openai.APITimeoutError:
                failure = "no answer in time"
            except (openai.APIError, ValueError) as error:
                failure = type(error).__name__
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
        message = message.lower()
        what: str | None = next((name for name in _LIMITS if name in body and name in message), None)
        if what is None and "response_format" in body:
            what = str(body["response_format"]["type"])
        if what is None:
            raise UserError(f"the server refuses the request: {printable(message)}") from None
        self._cache.keep_refusal(self.name, what)


@contextmanager
def open_server(
    *, model: str, base_url: str | None, timeout_seconds: float, cache: Cache, sleep: Callable[[float], None]
) -> Iterator[Server]:
    """A server; UserError without OPENAI_API_KEY, the only place a key comes from."""
    import openai  # noqa: TID251

    if not os.environ.get("OPENAI_API_KEY"):
        raise UserError(
            "OPENAI_API_KEY is not set: set it to your key (any word for a local server without keys)"
        )
    with openai.OpenAI(base_url=base_url, timeout=timeout_seconds, max_retries=0) as client:
        yield Server(client, model, cache, sleep)


def messages(prompt: str) -> list[dict[str, str]]:
    """A prompt as the API takes it."""
    return [{"role": "user", "content": prompt}]


def _reply(completion: Any) -> Reply:
    text = str(completion.choices[0].message.content or "") if completion.choices else ""
    usage = completion.usage
    return Reply(
        text=text,
        input_tokens=usage.prompt_tokens if usage else None,
        output_tokens=usage.completion_tokens if usage else None,
    )


def _reply_of_json(body: dict[str, Any]) -> Reply | None:
    """The reply in one line of a batch's output; None where it holds none."""
    try:
        text = str(body["choices"][0]["message"]["content"] or "")
    except (KeyError, IndexError, TypeError):
        return None
    usage = body.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    given, taken = (counts.get(name) for name in ("prompt_tokens", "completion_tokens"))
    return Reply(
        text=text,
        input_tokens=given if isinstance(given, int) else None,
        output_tokens=taken if isinstance(taken, int) else None,
    )


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

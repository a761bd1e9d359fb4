"""Asks a language model for lexicon terms: the only file that talks to one, and only while lexicons are built.

Any server that speaks the OpenAI API will do. What a server refuses (a JSON schema, a parameter) is learned from its
answer and remembered; replies are kept in a cache, so a rerun asks nothing twice; spending stops before it passes
the limit, and what was paid for stays. Replies are hostile input: only plain lower-case words leave this file.
"""

import hashlib
import json
import os
import re
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.storage import read_json

PROMPTS: Final = Path(__file__).parent / "prompts"
BAND_WORDS: Final = (
    "very common",
    "common",
    "neither common nor rare",
    "uncommon",
    "rare, but known to most readers",
)
LETTER_GROUPS: Final = ("a b c", "d e f g", "h i j k l", "m n o p", "q r s", "t u v w x y z")
TERMS_PER_CALL: Final = 60
MAX_REPLY_TOKENS: Final = 1_500
MAX_ATTEMPTS: Final = 6
MAX_WAIT_SECONDS: Final = 120.0
CHARACTERS_PER_TOKEN: Final = 3
"""For estimates: English has about four, so estimates err on the dear side."""
LADDER: Final = ("json_schema", "json_object", "lines")
_TERM: Final = re.compile(r"[a-z]{2,20}(?:[ -][a-z]{1,20}){0,3}")
_STRING: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*[,\]]')
_BULLET: Final = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s*")
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
class LlmOptions:
    """Which model is asked, and how much it may cost. The key comes from OPENAI_API_KEY alone."""

    model: str
    base_url: str | None = None
    """The server; None takes OPENAI_BASE_URL or OpenAI's own."""
    cache: Path = Path("llm-cache.sqlite")
    """Replies and what the server refused; keep it, and a rerun is free."""
    prices: Path = PROMPTS / "prices.json"
    max_usd: float | None = None
    max_tokens: int | None = None
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_usd", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"--{name.replace('_', '-')} {value}: give more than 0")
        if self.max_usd is not None and price_of(self) is None:
            raise UserError(
                f"--max-usd: {self.prices} has no price for {self.model!r}; add it there or limit with --max-tokens"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One question to the model."""

    lexicon: str
    prompt: str


@dataclass(slots=True, kw_only=True)
class Usage:
    """What was asked and paid so far."""

    calls: int = 0
    cached: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    stopped: str = ""
    """Why no more was asked; "" where everything was."""
    terms: dict[str, list[str]] = field(default_factory=dict)


def plan_requests(*, terms_per_lexicon: int) -> list[Request]:
    """The questions for about so many terms of each lexicon, in a fixed order."""
    requests = []
    calls = -(-terms_per_lexicon // TERMS_PER_CALL)
    for lexicon in ("objects", "attributes", "relations"):
        template = (PROMPTS / f"{lexicon}.txt").read_text(encoding="utf-8")
        for call in range(calls):
            band = BAND_WORDS[call % len(BAND_WORDS)]
            letters = LETTER_GROUPS[call // len(BAND_WORDS) % len(LETTER_GROUPS)]
            prompt = template.format(count=TERMS_PER_CALL, band=band, letters=letters)
            requests.append(Request(lexicon=lexicon, prompt=prompt))
    return requests


def estimate(options: LlmOptions, requests: list[Request]) -> dict[str, Any]:
    """What the requests would cost at most: calls, tokens and dollars (None without a price). Asks nothing."""
    tokens = [_tokens_at_most(request) for request in requests]
    return {
        "model": options.model,
        "calls": len(requests),
        "input_tokens": sum(given for given, _ in tokens),
        "output_tokens": sum(taken for _, taken in tokens),
        "usd": _usd(options, sum(given for given, _ in tokens), sum(taken for _, taken in tokens)),
    }


def price_of(options: LlmOptions) -> dict[str, float] | None:
    """Dollars per million tokens of input and output, from the price file."""
    prices = read_json(options.prices).get("models", {}).get(options.model)
    return None if prices is None else {name: float(prices[name]) for name in ("input", "output")}


def ask(
    options: LlmOptions, requests: list[Request], *, sleep: Callable[[float], None] = time.sleep
) -> Usage:
    """Ask until everything is answered or a limit is reached; the terms of each lexicon, validated, in order.

    Raises UserError where asking on is pointless: no key, a bad key, an empty account, an unknown model, a server
    that stays away.
    """
    usage = Usage()
    with _open_cache(options.cache) as cache:
        for request in requests:
            reply = _cached(cache, options, request)
            if reply is None:
                usage.stopped = _limit_reached(options, request, usage)
                if usage.stopped:
                    break
                reply = _fetch(options, request, cache, usage, sleep)
            else:
                usage.cached += 1
            found = usage.terms.setdefault(request.lexicon, [])
            known = set(found)
            found.extend(term for term in dict.fromkeys(parse_terms(reply)) if term not in known)
    return usage


# -------------------------------------------------------------------------------- replies are hostile input
def parse_terms(reply: str) -> list[str]:
    """The terms of a reply: JSON, JSON that was cut off, or lines. Whatever is no plain word or phrase is dropped."""
    return [term for term in map(_clean, _strings(reply)) if term is not None]


def _strings(reply: str) -> list[str]:
    text = reply.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        if text.startswith(("{", "[")):
            return _STRING.findall(text)
        return [_BULLET.sub("", line) for line in text.splitlines()]
    if isinstance(value, dict):
        value = next((each for each in value.values() if isinstance(each, list)), [])
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _clean(text: str) -> str | None:
    """The text as a term, or None: no markup, no control characters, no sentence, nothing long."""
    if len(text) > 60 or any(unicodedata.category(character)[0] == "C" for character in text):
        return None
    term = unicodedata.normalize("NFKC", text).strip().lower()
    return term if _TERM.fullmatch(term) else None


# -------------------------------------------------------------------------------- money and what is kept
def _tokens_at_most(request: Request) -> tuple[int, int]:
    return len(request.prompt) // CHARACTERS_PER_TOKEN + 50, MAX_REPLY_TOKENS


def _usd(options: LlmOptions, given: int, taken: int) -> float | None:
    price = price_of(options)
    return None if price is None else round((given * price["input"] + taken * price["output"]) / 1e6, 6)


def _limit_reached(options: LlmOptions, request: Request, usage: Usage) -> str:
    """Why the next request may not be made, counted at its dearest; "" where it may."""
    given, taken = _tokens_at_most(request)
    given, taken = given + usage.input_tokens, taken + usage.output_tokens
    if options.max_tokens is not None and given + taken > options.max_tokens:
        return f"--max-tokens {options.max_tokens}"
    if options.max_usd is not None and (_usd(options, given, taken) or 0.0) > options.max_usd:
        return f"--max-usd {options.max_usd:g}"
    return ""


@contextmanager
def _open_cache(file: Path) -> Iterator[sqlite3.Connection]:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with closing(sqlite3.connect(file)) as cache:
            cache.execute("CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, model TEXT, reply TEXT)")
            cache.execute(
                "CREATE TABLE IF NOT EXISTS refused (server TEXT, what TEXT, UNIQUE (server, what))"
            )
            yield cache
    except sqlite3.DatabaseError as error:
        raise UserError(f"{file} is no cache of this program ({error}): name another file") from error


def _key(options: LlmOptions, request: Request) -> str:
    asked = {"model": options.model, "messages": _messages(request), "tokens": MAX_REPLY_TOKENS}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def _cached(cache: sqlite3.Connection, options: LlmOptions, request: Request) -> str | None:
    row = cache.execute("SELECT reply FROM replies WHERE key = ?", (_key(options, request),)).fetchone()
    return None if row is None else str(row[0])


def _messages(request: Request) -> Any:
    return [{"role": "user", "content": request.prompt}]


# -------------------------------------------------------------------------------- asking the server
def _fetch(
    options: LlmOptions,
    request: Request,
    cache: sqlite3.Connection,
    usage: Usage,
    sleep: Callable[[float], None],
) -> str:
    """The reply to one request, kept in the cache before anything else is done with it."""
    completion = _complete(options, request, cache, sleep)
    reply = str(completion.choices[0].message.content or "") if completion.choices else ""
    given, taken = _tokens_at_most(request)
    usage.calls += 1
    usage.input_tokens += completion.usage.prompt_tokens if completion.usage else given
    usage.output_tokens += completion.usage.completion_tokens if completion.usage else taken
    with cache:
        cache.execute(
            "INSERT OR REPLACE INTO replies VALUES (?, ?, ?)", (_key(options, request), options.model, reply)
        )
    return reply


def _complete(
    options: LlmOptions, request: Request, cache: sqlite3.Connection, sleep: Callable[[float], None]
) -> Any:
    import openai  # noqa: TID251

    if not os.environ.get("OPENAI_API_KEY"):
        raise UserError(
            "OPENAI_API_KEY is not set: set it to your key (any word for a local server without keys)"
        )
    failure = ""
    with openai.OpenAI(base_url=options.base_url, timeout=options.timeout_seconds, max_retries=0) as client:
        server = f"{client.base_url}|{options.model}"
        attempt = 0
        while attempt < MAX_ATTEMPTS:
            parameters = _parameters(_refused(cache, server))
            try:
                return client.chat.completions.create(
                    model=options.model,
                    messages=_messages(request),
                    **parameters,
                )
            except openai.BadRequestError as error:
                _learn(
                    cache, server, parameters, error
                )  # each refusal is learned once: this cannot loop for ever
            except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
                raise UserError(
                    f"the server refuses the key in OPENAI_API_KEY (HTTP {error.status_code})"
                ) from None
            except openai.NotFoundError:
                raise UserError(f"the server does not know the model {options.model!r} (HTTP 404)") from None
            except openai.RateLimitError as error:
                if error.code == "insufficient_quota":
                    raise UserError("the account has no credit left (insufficient_quota)") from None
                failure = "HTTP 429"
                sleep(_wait(error.response.headers.get("retry-after"), attempt))
                attempt += 1
            except (openai.APIConnectionError, openai.InternalServerError) as error:
                failure = (
                    "no answer in time" if isinstance(error, openai.APITimeoutError) else type(error).__name__
                )
                sleep(_wait(None, attempt))
                attempt += 1
            except (openai.APIError, ValueError) as error:
                failure = f"an answer that is none ({type(error).__name__})"
                sleep(_wait(None, attempt))
                attempt += 1
    raise UserError(
        f"{options.model}: gave up after {MAX_ATTEMPTS} attempts ({failure}); what was answered is kept"
    )


def _wait(retry_after: str | None, attempt: int) -> float:
    """Seconds to wait: what the server asks for, else twice as long each time; two minutes at most."""
    try:
        return min(float(retry_after or ""), MAX_WAIT_SECONDS)
    except ValueError:
        return float(min(2.0**attempt, MAX_WAIT_SECONDS))


def _refused(cache: sqlite3.Connection, server: str) -> set[str]:
    return {str(row[0]) for row in cache.execute("SELECT what FROM refused WHERE server = ?", (server,))}


def _parameters(refused: set[str]) -> dict[str, Any]:
    """What is sent beside model and messages, without what the server refused."""
    parameters: dict[str, Any] = {}
    form = next(step for step in LADDER if step not in refused or step == LADDER[-1])
    if form == "json_schema":
        parameters["response_format"] = _SCHEMA
    elif form == "json_object":
        parameters["response_format"] = {"type": "json_object"}
    limit = next((name for name in ("max_completion_tokens", "max_tokens") if name not in refused), None)
    if limit is not None:
        parameters[limit] = MAX_REPLY_TOKENS
    return parameters


def _learn(cache: sqlite3.Connection, server: str, parameters: dict[str, Any], error: Any) -> None:
    """Note what a 400 answer refuses: a token limit it names, else the form of the reply; UserError for neither."""
    message = str(error.message).lower()
    limits = ("max_completion_tokens", "max_tokens")
    what: str | None = next((name for name in limits if name in parameters and name in message), None)
    if what is None and "response_format" in parameters:
        what = str(parameters["response_format"]["type"])
    if what is None:
        raise UserError(f"the server refuses the request: {_clean_message(message)}") from None
    with cache:
        cache.execute("INSERT OR IGNORE INTO refused VALUES (?, ?)", (server, what))


def _clean_message(message: str) -> str:
    """A server's words as one short printable line."""
    return "".join(character if character.isprintable() else " " for character in message)[:200]

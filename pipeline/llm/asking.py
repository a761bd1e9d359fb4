"""Asks a language model for lexicon terms, within a budget; only while lexicons are built.

Any server that speaks the OpenAI API will do (`server`). Replies are kept in a cache (`cache`), so a rerun
asks nothing twice; spending stops before it passes the limit, and what was paid for stays. Replies are hostile input:
only plain lower-case words leave `replies`.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pipeline.errors import UserError
from pipeline.llm.cache import Batch, Cache, open_cache
from pipeline.llm.replies import parse_terms, printable
from pipeline.llm.server import LADDER, MAX_REPLY_TOKENS, Reply, Server, messages, open_server
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
CHARACTERS_PER_TOKEN: Final = 3
"""For estimates: English has about four, so estimates err on the dear side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmOptions:
    """Which model is asked, and how much it may cost. The key comes from OPENAI_API_KEY alone."""

    model: str = field(metadata={"name": "llm_model"})
    """Ask this model for terms, too (the key comes from OPENAI_API_KEY). Default: WordNet alone."""
    base_url: str | None = field(default=None, metadata={"name": "llm_base_url"})
    """Any OpenAI-compatible server. Default: OPENAI_BASE_URL, or OpenAI's own."""
    cache: Path = field(default=Path("llm-cache.sqlite"), metadata={"name": "llm_cache"})
    """Keeps every reply, and what the server refused: a rerun is free."""
    prices: Path | None = None
    """Price table (JSON). Default: the one that comes with the package; check it."""
    max_usd: float | None = None
    """Stop before it costs more; what was paid is kept."""
    max_tokens: int | None = None
    """Stop before it takes more tokens."""
    timeout_seconds: float = 60.0
    """For one reply."""
    batch: bool = field(default=False, metadata={"name": "llm_batch"})
    """Hand all requests over at once (the batch API: slower, at OpenAI half the price); a rerun waits for the same
    batch."""
    poll_seconds: float = 30.0
    """Between two looks at a batch."""

    @property
    def table(self) -> Path:
        """The file that prices are looked up in."""
        return self.prices or PROMPTS / "prices.json"

    def __post_init__(self) -> None:
        for name in ("max_usd", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise UserError(f"--{name.replace('_', '-')} {value}: give more than 0")
        if self.max_usd is not None and price_of(self) is None:
            raise UserError(
                f"--max-usd: {self.table} has no price for {self.model!r}; add it there or limit with --max-tokens"
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
    given, taken = sum(given for given, _ in tokens), sum(taken for _, taken in tokens)
    checked = read_json(options.table).get("checked")
    return {
        "model": options.model,
        "calls": len(requests),
        "input_tokens": given,
        "output_tokens": taken,
        "usd": _usd(options, given, taken),
        "prices": f"{options.table.name}, {f'checked {checked}' if checked else 'not checked against a price list'}",
    }


def price_of(options: LlmOptions) -> dict[str, float] | None:
    """Dollars per million tokens of input and output, from the price file."""
    try:
        prices = read_json(options.table).get("models", {}).get(options.model)
        return None if prices is None else {name: float(prices[name]) for name in ("input", "output")}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f'--prices {options.table}: not a price table ({{"models": {{NAME: {{"input": USD, "output": USD}}}}}})'
        ) from error


def ask(
    options: LlmOptions, requests: list[Request], *, sleep: Callable[[float], None] = time.sleep
) -> Usage:
    """Ask until everything is answered or a limit is reached; the terms of each lexicon, validated, in order.

    Raises UserError where asking on is pointless: no key, a bad key, an empty account, an unknown model, a server
    that stays away.
    """
    usage = Usage()
    with open_cache(options.cache) as cache:
        keys = {_key(options, request): request for request in requests}
        missing = {key: request for key, request in keys.items() if cache.reply(key) is None}
        usage.cached = len(keys) - len(missing)
        if missing:
            with open_server(
                model=options.model,
                base_url=options.base_url,
                timeout_seconds=options.timeout_seconds,
                cache=cache,
                sleep=sleep,
            ) as server:
                run = _Run(options, server, cache, missing, usage)
                (_ask_in_batches if options.batch else _ask_one_by_one)(run)
        for key, request in keys.items():
            reply = cache.reply(key)
            if reply is not None:
                found = usage.terms.setdefault(request.lexicon, [])
                known = set(found)
                found.extend(term for term in dict.fromkeys(parse_terms(reply)) if term not in known)
    return usage


@dataclass(frozen=True, slots=True)
class _Run:
    """What the steps of one `ask` share."""

    options: LlmOptions
    server: Server
    cache: Cache
    missing: dict[str, Request]
    """The requests without a reply when it began, by key."""
    usage: Usage


def _ask_one_by_one(run: _Run) -> None:
    for key, request in run.missing.items():
        run.usage.stopped = _limit_reached(run.options, [request], run.usage)
        if run.usage.stopped:
            return
        _keep(run, key, run.server.complete(request.prompt))


# -------------------------------------------------------------------------------- many at once
def _ask_in_batches(run: _Run) -> None:
    """Wait for the batches that earlier runs left with the server, then hand over what is still missing.

    What a batch leaves unanswered is handed over again, as often as a server can refuse a parameter or a form of reply.
    """
    cache, server = run.cache, run.server
    for batch in cache.batches(server.name):
        _collect(run, batch)
    for _ in range(len(LADDER) + 2):
        taken = _affordable(run)
        if not taken:
            return
        # The refusals are part of it: the same requests in another form are another batch.
        parts = [*sorted(taken), *sorted(cache.refused(server.name))]
        token = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        cache.keep_batch(server.name, token, None, taken)
        id = server.start_batch(token, {key: request.prompt for key, request in taken.items()})
        cache.keep_batch(server.name, token, id, taken)
        _collect(run, Batch(token=token, id=id, keys=tuple(taken)))
    if _affordable(run):
        raise UserError(
            f"{run.options.model}: the server answers only a part of a batch; what it answered is kept"
        )


def _affordable(run: _Run) -> dict[str, Request]:
    """The requests still without a reply, as many as the limits allow."""
    taken: dict[str, Request] = {}
    for key, request in run.missing.items():
        if run.cache.reply(key) is None:
            run.usage.stopped = _limit_reached(run.options, [*taken.values(), request], run.usage)
            if run.usage.stopped:
                break
            taken[key] = request
    return taken


def _collect(run: _Run, batch: Batch) -> None:
    """Wait for a batch and keep its replies. One whose id never reached us is looked for at the server."""
    cache, server = run.cache, run.server
    id = batch.id or server.find_batch(batch.token)
    done = None
    if id is not None:
        cache.keep_batch(server.name, batch.token, id, batch.keys)
        print(
            f"batch {printable(id)}: {len(batch.keys)} requests; stop and run again at will", file=sys.stderr
        )
        done = server.wait_for_batch(id, every_seconds=run.options.poll_seconds)
    if done is None:  # the server never had it, or has it no more
        cache.forget_batch(batch.token)
        return
    for key, reply in server.batch_replies(done):
        if key in batch.keys and cache.reply(key) is None:
            _keep(run, key, reply)
    cache.forget_batch(batch.token)
    if done.status != "completed" and done.output_file_id is None:
        told = f"batch {printable(id or '')} {printable(str(done.status))}"
        raise UserError(f"{told} at the server; run again to hand its requests over anew")


# -------------------------------------------------------------------------------- money and what is kept
def _keep(run: _Run, key: str, reply: Reply) -> None:
    """Write a reply down before anything else is done with it, and count it; at its dearest where nobody says."""
    run.cache.keep_reply(key, run.options.model, reply.text)
    request = run.missing.get(key)
    given, taken = (0, MAX_REPLY_TOKENS) if request is None else _tokens_at_most(request)
    run.usage.calls += 1
    run.usage.input_tokens += given if reply.input_tokens is None else reply.input_tokens
    run.usage.output_tokens += taken if reply.output_tokens is None else reply.output_tokens


def _tokens_at_most(request: Request) -> tuple[int, int]:
    return len(request.prompt) // CHARACTERS_PER_TOKEN + 50, MAX_REPLY_TOKENS


def _usd(options: LlmOptions, given: int, taken: int) -> float | None:
    price = price_of(options)
    return None if price is None else round((given * price["input"] + taken * price["output"]) / 1e6, 6)


def _limit_reached(options: LlmOptions, requests: list[Request], usage: Usage) -> str:
    """Why the next requests may not be made, counted at their dearest; "" where they may."""
    tokens = [_tokens_at_most(request) for request in requests]
    given = usage.input_tokens + sum(given for given, _ in tokens)
    taken = usage.output_tokens + sum(taken for _, taken in tokens)
    if options.max_tokens is not None and given + taken > options.max_tokens:
        return f"--max-tokens {options.max_tokens}"
    if options.max_usd is not None and (_usd(options, given, taken) or 0.0) > options.max_usd:
        return f"--max-usd {options.max_usd:g}"
    return ""


def _key(options: LlmOptions, request: Request) -> str:
    asked = {"model": options.model, "messages": messages(request.prompt), "tokens": MAX_REPLY_TOKENS}
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()

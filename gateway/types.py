"""The vocabulary: every value that travels between the stages of a request.

    receive > classify > decide > recall > call > verify (escalate) > reply > record

Values are frozen and have no behaviour beyond what a comparison needs. `Exchange` is the one that
grows: it is the story of a request while the request is being lived, and it is read once, at the end.
Units stand in names: `seconds`, `_ns` (nanoseconds of the epoch, for stamps only), `_nano_usd`, `tokens`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum


class DataClass(IntEnum):
    """How sensitive a text is; the order is the order of protection (`PERSONAL` and above is GDPR data)."""

    PUBLIC = 0
    INTERNAL = 1
    PERSONAL = 2
    SPECIAL = 3
    SECRET = 4

    @property
    def label(self) -> str:
        """The name that files and headers use: `personal`."""
        return _DATA_LABELS[self]


class Zone(IntEnum):
    """Where a text may be; the order is the distance from the premises."""

    PREMISES = 0
    EU = 1
    WORLD = 2

    @property
    def label(self) -> str:
        """The name that files and headers use: `premises`."""
        return _ZONE_LABELS[self]


_DATA_LABELS = {member: member.name.lower() for member in DataClass}
_ZONE_LABELS = {member: member.name.lower() for member in Zone}


class Mode(StrEnum):
    """How a route sends a streamed request's answer."""

    STREAMED = "streamed"  # straight through; no escalation after the first byte
    WINDOWED = "windowed"  # the first tokens are held and checked, then it streams
    BUFFERED = "buffered"  # the whole is verified, then sent


class Outcome(StrEnum):
    """How a request ended. A closed set: it labels metrics and ledger entries."""

    OK = "ok"  # a model answered
    CACHED = "cached"  # an earlier answer was sent
    REFUSED = "refused"  # the caller's request was not acceptable, or nothing may answer it
    FAILED = "failed"  # no upstream answered
    CUT = "cut"  # the stream broke after its first byte had been sent
    ABORTED = "aborted"  # the client left


class CacheState(StrEnum):
    """What the cache did for a request (`x-cauce-cache`)."""

    HIT = "hit"
    MISS = "miss"
    OFF = "off"


class Cloud(StrEnum):
    """Whether the models off the premises can be reached."""

    UP = "up"
    DEGRADED = "degraded"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Budget:
    """What may be spent under one name, `team:billing` say, in each day or month of the business, or in all."""

    scope: str
    period: str  # day, month or total
    nano_usd: int
    hard: bool = True  # a soft one only alerts
    carry_over: bool = False  # what the period before left of its own amount is added to this one
    since_us: int = 0

    @property
    def name(self) -> str:
        """`team:billing/month`."""
        return f"{self.scope}/{self.period}"


@dataclass(frozen=True, slots=True)
class Rate:
    """How much a minute under one name. `kind` is `requests` or `tokens`."""

    scope: str
    kind: str
    per_minute: int


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. `id` is the key's id (never the key), or `anonymous`."""

    id: str = "anonymous"
    team: str = ""
    app: str = ""
    tags: tuple[str, ...] = ()
    models: frozenset[str] | None = None  # None: any model or alias
    data: DataClass = DataClass.PUBLIC  # a floor set on the key
    org: str = ""
    budgets: tuple[Budget, ...] = ()  # its own, its app's, its team's and its organisation's
    rates: tuple[Rate, ...] = ()


ANONYMOUS = Caller()


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of text of a request, with where it stood.

    `role` is the message's role, or `tools`, `schema`, `field` for text outside the messages.
    """

    role: str
    text: str


@dataclass(frozen=True, slots=True)
class Masked:
    """A request's body with placeholders where personal data stood, and what each placeholder stands for.

    `data` is the class of that body by a scan of its own; `counts` says how many values of each type were replaced.
    """

    body: Mapping[str, object] = field(repr=False)
    data: DataClass
    values: Mapping[str, str] = field(repr=False)
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request stands in a distributed trace: ids of W3C Trace Context, in hexadecimal digits."""

    trace_id: str
    span_id: str  # the request's own
    parent_id: str = ""  # the caller's span; nothing where the trace begins here


@dataclass(frozen=True, slots=True)
class Inbound:
    """A request as it was received: parsed once, its body never copied.

    `body` is the JSON object that the caller sent, unknown fields included. `parts` holds every text in
    it, in order; `opaque` the kinds of parts that hold no readable text (`image`, `audio`, `file`).
    Of a request that came in another API's shape, `body` is its translation, `lost` names the fields that have no place
    in it, and `hints` those in it that only some providers take (`Model.hints`).
    """

    request_id: str
    endpoint: str
    body: Mapping[str, object]
    parts: tuple[Part, ...]
    caller: Caller
    model: str  # as asked for: `auto`, an alias, a model's or a route's name
    stream: bool
    received_ns: int
    opaque: tuple[str, ...] = ()
    include_usage: bool = False
    data: DataClass = DataClass.PUBLIC  # raised by header
    tags: tuple[str, ...] = ()
    cacheable: bool = True  # false when the caller sent `cache-control: no-cache` or `no-store`
    lost: tuple[str, ...] = ()
    hints: frozenset[str] = frozenset()
    masked: Masked | None = None  # what goes beyond the ceiling in the body's place
    headers: Mapping[str, str] = field(default_factory=dict)  # of the caller's, those that may go on (`Model.headers`)
    trace: Trace | None = None  # while it is traced


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence of the privacy scan: what was found and where, never the text itself.

    `kind` is a GDPR kind (`identity`, `contact`, `financial`, ...), `label` the recogniser (`ID_DNI`, `IBAN`,
    `model`), `start` and `end` are offsets in code points into part number `part`.
    """

    kind: str
    label: str
    data: DataClass
    part: int = 0
    start: int = 0
    end: int = 0
    score: float = 1.0


@dataclass(frozen=True, slots=True)
class Detection:
    """What the privacy scan says of a whole request."""

    data: DataClass
    stay_score: float  # 0 to 1: evidence that the text must stay
    kinds: frozenset[str] = frozenset()
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Difficulty:
    """What the router model says of a query."""

    slm_success: float  # calibrated P(the small model answers acceptably)
    gain: float  # expected quality gain of the large model over the small one
    task: str
    domain: str
    low_confidence: bool = False
    follow_up: bool = False


@dataclass(frozen=True, slots=True)
class Signals:
    """All that a policy may look at. Facts and scores, never choices."""

    slm_success: float = 0.5
    gain: float = 0.0
    stay_score: float = 0.0
    task: str = "open_qa"
    domain: str = "general"
    data: DataClass = DataClass.PUBLIC
    data_kinds: frozenset[str] = frozenset()
    language: str = "en"
    prompt_tokens: int = 0
    modality: str = "text"
    tools: bool = False
    json: bool = False
    caller: Caller = ANONYMOUS
    budget_left: float | None = None  # USD; None: no budget is set
    cloud: Cloud = Cloud.UP
    hour: int = 12  # 0 to 23, in the policy's time zone
    low_confidence: bool = False
    follow_up: bool = False  # the turn makes sense only after those before it: `and in Java?`
    draw: float = 0.5  # the conversation's lot, 0 to 0.9999: which canaries and shadows it takes part in
    held_by: str = ""  # the rule that moved this conversation to a large model, while it is kept there (`sticky`)
    findings: tuple[Finding, ...] = ()

    @property
    def difficulty(self) -> float:
        """`1 - slm_success`, for people."""
        return 1.0 - self.slm_success


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one upstream call, in seconds."""

    connect_s: float = 2.0
    first_token_s: float = 20.0
    idle_s: float = 15.0
    total_s: float = 300.0


@dataclass(frozen=True, slots=True)
class EnergyFacts:
    """What the operator knows of a model that its energy is estimated by (`ledger/energy.py`)."""

    like: str = ""  # the entry of the method's catalogue that it is: `openai/gpt-4.1`
    active_b: float | None = None  # billions of parameters that work on a token
    total_b: float | None = None
    pue: float | None = None  # of its data centre
    country: str = ""  # whose grid feeds it, ISO 3166-1 alpha-3


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a call that failed before its first byte is made again, and how long is waited for that, in seconds."""

    most: int = 1
    first_wait_s: float = 0.1
    longest_wait_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Rest:
    """After how many failures in a row an upstream is left alone (0: never), and for how long."""

    failures: int = 5
    rest_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Replica:
    """One more endpoint of a model, its name there the same."""

    base_url: str
    api_key: str = field(default="", repr=False)
    weight: int = 1
    max_in_flight: int = 256


@dataclass(frozen=True, slots=True)
class Model:
    """One upstream: an endpoint and a model that we can call.

    `id` is its name in `cauce.yaml`, `model` the name that the upstream knows it by.
    """

    id: str
    provider: str
    model: str
    zone: Zone
    kind: str  # slm, llm or embedding
    base_url: str = ""
    api_key: str = field(default="", repr=False)
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    breaker: Rest = Rest()
    hedge: str = "none"  # none, replica or rung: where a second request goes when the first is slow to begin
    max_in_flight: int = 256
    weight: int = 1  # its own share of the calls beside its replicas'
    replicas: tuple[Replica, ...] = ()
    context_tokens: int | None = None
    modalities: frozenset[str] = frozenset({"text"})
    tools: bool = True
    notice: str = ""  # what the caller must be told, sent in `x-cauce-notice`
    options: Mapping[str, str] = field(default_factory=dict)  # provider's own settings
    hints: frozenset[str] = frozenset()  # fields of another API's that its adapter knows: `cache_control`, say
    energy: EnergyFacts = EnergyFacts()
    headers: frozenset[str] = frozenset()  # headers of a caller's that go to it


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A promise of the policy: this data class and every class above it stays inside `stays`.

    With `unless: pseudonymised`, a text that is personal and no more may go farther once it has been pseudonymised.
    """

    data: DataClass
    stays: Zone
    unless: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One verifier that a route asks for, with its threshold where it has one."""

    name: str  # one of `policy/vocabulary.py`
    threshold: float = 0.0
    model: str = ""  # whom `judge` and `samples` ask: a model's name or a kind; none: the model that answered
    times: int = 0  # how many further answers `samples` asks for


@dataclass(frozen=True, slots=True)
class VerifyBudget:
    """What the checks of one request that ask other models may use, all together. Beyond it the answer is accepted."""

    tokens: int = 4_000  # of prompts and answers
    ms: int = 5_000


@dataclass(frozen=True, slots=True)
class Route:
    """A named ladder: the models to try in order, and what an answer must pass."""

    name: str
    rungs: tuple[str, ...]  # model ids or kinds, as written
    checks: tuple[Check, ...] = ()
    mode: Mode | None = None  # None: windowed for a stream with checks, streamed without, buffered for a whole
    cache: bool = True
    transform: str = ""  # `pseudonymise`: what may not leave as it is goes with placeholders, where a guarantee says so
    verify_budget: VerifyBudget = VerifyBudget()
    draft: bool = False  # whether a rung is shown the answer that was turned down before it


@dataclass(frozen=True, slots=True)
class Skipped:
    """A rung that a decision left out, and why, in words."""

    model: str
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What was chosen, by which rule of which policy revision."""

    rule: str
    route: Route
    ladder: tuple[str, ...]  # model ids that may be called, in order; may be empty
    ceiling: Zone  # the farthest zone that this request's text may enter
    policy: str
    policy_revision: str
    skipped: tuple[Skipped, ...] = ()
    canary: bool = False  # the route is one that the rule's canary names, not the rule's own
    shadow: tuple[str, ...] = ()  # model ids for a copy of the request: the first that did not answer it gets one
    sticky: bool = False  # it goes on where an earlier turn of the conversation was moved
    holds: bool = False  # the rule is sticky: a large model's answer keeps the conversation
    masked: Zone | None = None  # beyond the ceiling: the farthest zone that the text may enter pseudonymised
    asked: tuple[tuple[str, ...], ...] = ()  # for each check of the route: model ids that it may ask, in order
    reserve: tuple[str, ...] = ()  # models on the premises that answer when none of a ladder in the cloud can


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, by kind. A kind that the provider did not report is nothing: not known, never 0.

    `prompt_tokens` includes those read from a cache, written to one (of which some for an hour), and those of audio and
    images; `completion_tokens` includes reasoning, audio and images. `tier` is the provider's service tier.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None
    estimated: bool = False
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    prompt_audio_tokens: int | None = None
    completion_audio_tokens: int | None = None
    prompt_image_tokens: int | None = None
    completion_image_tokens: int | None = None
    tier: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer in the chat-completion shape: its bytes, and what the checks need of it."""

    body: bytes
    text: str = ""
    finish_reason: str = "stop"
    usage: Usage | None = None
    tool_calls: int = 0
    mean_logprob: float | None = None
    tail_logprob: float | None = None  # the mean of the least likely tenth of its tokens
    margin: float | None = None  # how much likelier its tokens were than the best other one, on average


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the checks say of an answer. `check` names the one that turned it down."""

    accepted: bool
    check: str = ""
    reason: str = ""
    passed: tuple[str, ...] = ()  # the checks that had nothing against it


ACCEPTED = Verdict(accepted=True)


@dataclass(slots=True)
class Aside:
    """What an adapter says of a call beside its answer, as it becomes known.

    `headers` are the provider's, for the caller; `lost` names fields of the request that its API has no place for.
    `span_id` is the call's in its request's trace, where there is one.
    """

    headers: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    span_id: str = ""


@dataclass(slots=True)
class Attempt:
    """One upstream call: when, how it went, what it used."""

    model: Model
    started_ns: int
    seconds: float = 0.0
    first_token_seconds: float | None = None
    outcome: str = "ok"  # ok, outrun (by its hedge, or as one), or the `code` of the error that ended it
    verdict: Verdict = ACCEPTED
    usage: Usage | None = None
    shadow: bool = False  # a copy for comparison: nobody was sent its answer
    began: float = field(default_factory=time.monotonic)  # durations are counted from here: no clock change bends them
    transform: str = ""  # what was done to the text before this call: `pseudonymised`
    aside: Aside = field(default_factory=Aside)
    verifies: str = ""  # `judge` or `sample`: a call that a check made, nobody was sent its answer
    opinions: tuple[tuple[str, str], ...] = ()  # what each check that asks came to, for the metrics
    role: str = ""  # retry or hedge; nothing: the first call to its model


@dataclass(slots=True)
class Exchange:
    """The whole story of a request. Grows while the request lives; recorded once."""

    request_id: str
    endpoint: str
    received_ns: int
    caller: Caller = ANONYMOUS
    inbound: Inbound | None = None
    signals: Signals | None = None
    decision: Decision | None = None
    attempts: list[Attempt] = field(default_factory=list)
    cache: CacheState = CacheState.OFF
    cached_usage: Usage | None = None  # of the answer that a cache hit replayed
    cached_model: Model | None = None
    outcome: Outcome = Outcome.FAILED
    status: int = 0
    code: str = ""  # the error's code, when there was one
    stream: bool = False
    transform: str = ""  # `pseudonymised`, or why the text could not be and stayed
    classify_seconds: float = 0.0
    first_byte_seconds: float | None = None
    seconds: float = 0.0
    bytes_out: int = 0
    began: float = field(default_factory=time.monotonic)  # durations are counted from here
    reserved_nano_usd: int | None = None  # what the caller's budgets hold for it; None: there is no budget
    trace: Trace | None = None

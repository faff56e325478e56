"""What a policy may talk about: every signal with the values that it can take.

Read by the loader (is this a signal, can it have this value?), the proof (which values are there to go through?) and
the JSON Schema. Names of tasks, domains and kinds are those of the stages that give them; a test holds them
together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.types import Cloud, DataClass


class Form(StrEnum):
    """How a signal is compared."""

    NUMBER = "number"  # a score between two bounds
    COUNT = "count"  # a whole number from 0 up
    AMOUNT = "amount"  # USD, without bounds; infinite when no budget is set
    CLASS = "class"  # public < internal < personal < special < secret
    FLAG = "flag"  # true or false
    WORD = "word"  # one name out of several
    KINDS = "kinds"  # a set of names
    HOUR = "hour"  # 0 to 23
    CALLER = "caller"  # key, team, app, tags


@dataclass(frozen=True, slots=True)
class Signal:
    """One signal. `values` are the known names; `open` says that there may be others."""

    name: str
    form: Form
    help: str
    low: float = -math.inf
    high: float = math.inf
    values: tuple[str, ...] = ()
    open: bool = False


TASKS: Final = (
    "faq", "classify", "extract", "summarize", "translate", "rewrite", "write", "recommend", "code", "math", "reason",
    "open_qa",
)  # fmt: skip
DOMAINS: Final = ("telecom", "banking", "health", "retail", "learning", "law", "science", "code", "general")
DATA_KINDS: Final = (
    "identity", "contact", "financial", "location", "dob", "online_id", "minors", "health", "special_other", "criminal",
    "credential", "business",
)  # fmt: skip
LANGUAGES: Final = ("es", "en", "ca", "gl", "eu", "pt", "fr", "de", "it", "und")
MODALITIES: Final = ("text", "image", "audio", "file")
CALLER_FIELDS: Final = ("key", "team", "app", "tags")
OVERLAY_FIELDS: Final = CALLER_FIELDS[:-1]  # not tags: whoever sends a request can set them
KINDS_OF_MODEL: Final = ("slm", "llm")
OPERATING_POINTS: Final = ("balanced", "strict")
TRANSFORMS: Final = ("pseudonymise",)
EXCEPTIONS: Final = ("pseudonymised",)  # what a guarantee on personal data may say after `unless`

SIGNALS: Final[dict[str, Signal]] = {
    signal.name: signal
    for signal in (
        Signal("slm_success", Form.NUMBER, "calibrated probability that the small model answers acceptably", 0, 1),
        Signal("gain", Form.NUMBER, "expected quality gain of the large model over the small one", -1, 1),
        Signal("difficulty", Form.NUMBER, "1 - slm_success", 0, 1),
        Signal("stay_score", Form.NUMBER, "evidence that the text must stay", 0, 1),
        Signal("task", Form.WORD, "what is asked for", values=TASKS, open=True),
        Signal("domain", Form.WORD, "what it is about", values=DOMAINS, open=True),
        Signal("data", Form.CLASS, "the class of the request", values=tuple(c.label for c in DataClass)),
        Signal("data_kinds", Form.KINDS, "kinds of sensitive data found", values=DATA_KINDS),
        Signal("language", Form.WORD, "ISO 639 code; und: cannot be told", values=LANGUAGES, open=True),
        Signal("prompt_tokens", Form.COUNT, "length of the request", 0),
        Signal("modality", Form.WORD, "the most demanding part", values=MODALITIES),
        Signal("tools", Form.FLAG, "the request offers tools"),
        Signal("json", Form.FLAG, "the request asks for JSON"),
        Signal("caller", Form.CALLER, "who asks: key, team, app, tags"),
        Signal("budget_left", Form.AMOUNT, "USD left to the caller; infinite when no budget is set"),
        Signal(
            "cloud", Form.WORD, "whether models off the premises can be reached", values=tuple(c.value for c in Cloud)
        ),
        Signal("hour", Form.HOUR, "hour of the day in the policy's time zone", 0, 23),
        Signal("low_confidence", Form.FLAG, "the router model is unsure of its scores"),
        Signal("follow_up", Form.FLAG, "the turn makes sense only after those before it"),
    )
}

# What is known of the conversation. `canary`, `shadow` and `sticky` follow it, cases and counter-examples say it, and
# no `when` may ask for it.
CONVERSATION: Final[dict[str, Signal]] = {
    signal.name: signal
    for signal in (
        Signal("draw", Form.NUMBER, "the conversation's lot: which canaries and shadows it takes part in", 0, 0.9999),
        Signal("held_by", Form.WORD, "the sticky rule that moved the conversation to a large model", open=True),
    )
}
EVERY: Final = SIGNALS | CONVERSATION

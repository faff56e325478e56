"""What the next rung is shown of an answer that was turned down, where the route says `draft: true`.

The draft goes out in the same release as the request, under the same label, so one that is of a higher class than the
request is shown to nobody: a model may know more than it was told. A rung that is sent placeholders in the text's place
is shown none either: they were made before there was a draft.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from gateway.stages.verify import Question
from gateway.types import Answer, Verdict

_MOST_CHARS: Final = 16_000
_NOTE: Final = {
    "en": "A smaller model drafted the answer above, and a check turned it down ({check}). It may be wrong. Answer my "
    "request yourself, completely: keep what is right in it, correct the rest, and do not mention it.",
    "es": "Un modelo más pequeño redactó la respuesta anterior y una comprobación la rechazó ({check}). Puede estar "
    "mal. Responde tú a mi petición, entera: conserva lo que esté bien, corrige lo demás y no lo menciones.",
}


def with_draft(question: Question, answer: Answer, verdict: Verdict) -> Question:
    """The question with the draft behind it; as it is when that has no text, calls a tool, or may not be shown."""
    messages = question.inbound.body.get("messages")
    text = answer.text.strip()
    if not text or answer.tool_calls or not isinstance(messages, list) or question.says_more(text):
        return question
    note = _NOTE["es" if question.signals.language in {"es", "ca", "gl", "eu"} else "en"].format(check=verdict.check)
    turns = [{"role": "assistant", "content": text[:_MOST_CHARS]}, {"role": "user", "content": note}]
    body = {**question.inbound.body, "messages": [*messages, *turns]}
    return dataclasses.replace(question, inbound=dataclasses.replace(question.inbound, body=body))

"""Canaries: invented texts of each data class, each of which can be told from every other wherever it turns up.

A canary is put in one place of a request; whoever has seen it, in whatever spelling, has received that request's text.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, quote_plus

from gateway.types import DataClass

Body = dict[str, Any]


@dataclass(frozen=True)
class Canary:
    """`text` is what is said, `word` the same where only letters, digits and dashes may stand; both hold a mark."""

    data: DataClass
    text: str
    word: str
    marks: tuple[str, ...]

    def seen_in(self, heap: bytes) -> bool:
        """Whether it is in there, in any spelling."""
        return any(spelling in heap for mark in self.marks for spelling in _spellings(mark))


def _spellings(mark: str) -> Iterator[bytes]:
    """A mark as it is, and as an encoder would write it, whatever stands around it."""
    raw = mark.encode()
    yield raw
    yield json.dumps(mark)[1:-1].encode()
    yield raw.hex().encode()
    yield quote(mark, safe="").encode()
    yield quote_plus(mark).encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        for before in range(3):
            whole = encode(b"\0" * before + raw)
            # Only the digits that no neighbour of the mark has a share in.
            yield whole[-(-before * 8 // 6) : (before + len(raw)) * 8 // 6]


def _dni(number: int) -> str:
    digits = (30_000_000 + number * 7_919) % 100_000_000
    return f"{digits:08d}{'TRWAGMYFPDXBNJZSQVHLCKE'[digits % 23]}"


def _iban(number: int) -> str:
    account = f"210004184502{number:08d}"
    check = 98 - int(f"{account}142800") % 97
    return f"ES{check:02d}{account}"


def _letters(number: int, places: int) -> str:
    return "".join(chr(ord("a") + number // 26**place % 26) for place in range(places))


def canary(data: DataClass, number: int) -> Canary:
    """A canary of this class; no two numbers give the same mark."""
    if data is DataClass.PUBLIC:
        mark = f"farola{number:05d}"
        return Canary(data, f"Explica cómo se limpia el modelo {mark} de cafetera.", f"manual_{mark}", (mark,))
    if data is DataClass.INTERNAL:
        mark = f"PED-2024-{number:06d}"
        return Canary(data, f"El pedido {mark} sigue sin salir del almacén.", f"pedido_{mark}", (mark,))
    if data is DataClass.PERSONAL:
        mark = _dni(number) if number % 2 else _iban(number)
        return Canary(data, f"Apunta {mark} en la ficha.", f"ficha_{mark}", (mark,))
    if data is DataClass.SPECIAL:
        mark = f"llevo {number} días con ansiedad"
        word = f"llevo_{number}_dias_con_ansiedad"
        return Canary(data, f"Soy diabético y {mark}, tomo sertralina.", f"{word}_y_tomo_sertralina", (mark, word))
    mark = f"Tr3bol{_letters(number, 4)}Qx9"
    token = f"ghp_{mark}1aB2cD3eF4gH5iJ6kL7mN8oP9qR"
    return Canary(data, f"La contraseña del correo es {mark}!", token, (mark,))


_PIXEL: Final = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
_ASKED: Final = {"role": "user", "content": "Resume lo anterior en una frase."}


def _tool(name: str = "buscar", description: str = "Busca en el catálogo.", **properties: Any) -> Body:
    parameters = {"type": "object", "properties": properties or {"q": {"type": "string"}}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def _turns(*messages: Mapping[str, Any], **fields: Any) -> Body:
    return {"messages": [*messages, _ASKED], **fields}


def _called(arguments: str, result: str) -> tuple[Body, ...]:
    call = {"id": "call_0123456789abcdef", "type": "function", "function": {"name": "buscar", "arguments": arguments}}
    return (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_0123456789abcdef", "content": result},
    )


def _parts(*parts: Body) -> Body:
    return _turns({"role": "user", "content": list(parts)})


def _schema(**changes: Any) -> Body:
    schema = {"type": "object", "properties": {"a": {"type": "string", **changes}}}
    return _turns(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


# Every place of a request where text can stand.
PLACES: Final[Mapping[str, Callable[[Canary], Body]]] = {
    "system prompt": lambda c: _turns({"role": "system", "content": c.text}),
    "earlier turn": lambda c: _turns({"role": "user", "content": c.text}, {"role": "assistant", "content": "Hecho."}),
    "earlier answer": lambda c: _turns({"role": "assistant", "content": c.text}),
    "last turn": lambda c: {"messages": [{"role": "user", "content": c.text}]},
    "name of a speaker": lambda c: _turns({"role": "user", "name": c.word, "content": "Hola."}),
    "text beside an image": lambda c: _parts(
        {"type": "text", "text": c.text}, {"type": "image_url", "image_url": {"url": _PIXEL}}
    ),
    "refusal beside a text": lambda c: _turns(
        {"role": "assistant", "content": [{"type": "text", "text": "Hecho.", "refusal": c.text}]}
    ),
    "kind of a part": lambda c: _parts({"type": c.word, "x": 1}),
    "file name": lambda c: _parts({"type": "file", "file": {"filename": f"{c.word}.pdf", "file_data": _PIXEL}}),
    "content of a file": lambda c: _parts(
        {"type": "file", "file": {"filename": "a.txt", "file_data": _as_data_url(c.text)}}
    ),
    "tool arguments": lambda c: _turns(*_called(json.dumps({"q": c.text}), "Nada.")),
    "tool result": lambda c: _turns(*_called("{}", json.dumps({"nota": c.text}, ensure_ascii=False))),
    "tool name": lambda c: _turns(tools=[_tool(c.word)]),
    "tool description": lambda c: _turns(tools=[_tool(description=c.text)]),
    "tool parameter": lambda c: _turns(tools=[_tool(q={"type": "string", "description": c.text})]),
    "tool choice": lambda c: _turns(tools=[_tool()], tool_choice={"type": "function", "function": {"name": c.word}}),
    "old functions": lambda c: _turns(functions=[{"name": "buscar", "description": c.text, "parameters": {}}]),
    "schema": lambda c: _schema(description=c.text),
    "example in a schema": lambda c: _schema(enum=[c.text, "b"]),
    "metadata": lambda c: _turns(metadata={"nota": c.text}),
    "key of metadata": lambda c: _turns(metadata={c.text: "1"}),
    "key without text": lambda c: _turns(x_contexto={c.text: True}),
    "user": lambda c: _turns(user=c.word),
    "stop": lambda c: _turns(stop=[c.text]),
    "unknown field": lambda c: _turns(x_contexto=[{"a": {"b": ["uno", c.text]}}]),
    "unknown field's name": lambda c: _turns(**{c.text: 1}),
    "text in place of a number": lambda c: _turns(max_completion_tokens=c.text),
    "text that is refused": lambda c: _turns(temperature=c.text),
    "text in the stream options": lambda c: _turns(stream_options={"x": c.text}),
    "text in place of a switch": lambda c: _turns(stream_options={"include_usage": c.text}),
}


def _as_data_url(text: str) -> str:
    return f"data:text/plain;base64,{base64.b64encode(text.encode()).decode()}"


# What nobody can read is held on the premises, whatever it holds.
UNREADABLE: Final = frozenset({"text beside an image", "kind of a part", "file name", "content of a file"})

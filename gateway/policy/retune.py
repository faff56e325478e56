"""Another threshold on the gain, in a policy's text: only those characters change, so that the difference says it all.

`gain: ">= 0.25"` of one rule becomes another number or, where languages differ, one number a language:
`any: [{language: es, gain: ">= 0.31"}, {not: {language: [es]}, gain: ">= 0.22"}]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from gateway.errors import ConfigError
from gateway.policy.problems import listed
from gateway.policy.source import Source, compose, text_of

OTHERS = ""  # every language that has no threshold of its own


@dataclass(frozen=True, slots=True)
class _Span:
    """Characters of a text."""

    start: int
    end: int


def retuned(text: str, thresholds: Mapping[str, float], *, file: str, rule: str | None = None) -> tuple[str, str]:
    """The text with these thresholds, by language and for `OTHERS`, and the rule that has them.

    Raises `ConfigError` when no rule, or more than one, asks for a gain of at least something and `rule` names none.
    """
    source = Source(file)
    root = compose(text, source)
    if root is None:
        raise ConfigError(source.problems[0].message, where=file)
    found = {name: span for name, when in _rules(root) if (span := _span(when)) is not None}
    if rule is not None:
        found = {name: span for name, span in found.items() if name == rule}
    if len(found) != 1:
        which = (
            f"several rules ask: {listed(found)}"
            if found
            else f"rule {rule!r} does not ask"
            if rule
            else "no rule asks"
        )
        one = '{name: hard, when: {gain: ">= 0.25"}, use: ROUTE}'
        cure = "name one of them with --rule" if found else f"write one: {one}"
        raise ConfigError(f'{which} for `gain: ">= ..."` in its `when`; {cure}', where=file)
    ((name, span),) = found.items()
    return text[: span.start] + _condition(thresholds) + text[span.end :], name


def _condition(thresholds: Mapping[str, float]) -> str:
    others = thresholds[OTHERS]
    named = {language: value for language, value in sorted(thresholds.items()) if language and value != others}
    if not named:
        return f'gain: ">= {others:g}"'
    parts = [f'{{language: {language}, gain: ">= {value:g}"}}' for language, value in named.items()]
    parts.append(f'{{not: {{language: [{", ".join(named)}]}}, gain: ">= {others:g}"}}')
    return f"any: [{', '.join(parts)}]"


def _rules(root: Node) -> Iterator[tuple[str, MappingNode]]:
    """Name and condition of each of the file's own rules."""
    for rule in _items(dict(_entries(root)).get("rules")):
        entries = {key: value for key, (_, value) in ((key, pair) for key, pair in _pairs(rule))}
        when, name = entries.get("when"), text_of(entries.get("name"))
        if isinstance(when, MappingNode) and name is not None:
            yield name, when


def _span(when: MappingNode) -> _Span | None:
    """Where a condition says its threshold: `gain: ">= x"`, or what this module made of it before."""
    for key, (key_node, value) in _pairs(when):
        if (key == "gain" and _at_least(value)) or (key == "any" and _ours(value)):
            return _Span(key_node.start_mark.index, value.end_mark.index)
    return None


def _at_least(node: Node) -> bool:
    said = (text_of(node) or "").strip()
    return said.startswith(">") and "," not in said


def _ours(node: Node) -> bool:
    parts = _items(node)
    each = [dict(_entries(part)) for part in parts]
    return (
        bool(parts)
        and isinstance(node, SequenceNode)
        and bool(node.flow_style)
        and all(set(one) in ({"language", "gain"}, {"not", "gain"}) and _at_least(one["gain"]) for one in each)
    )


def _items(node: Node | None) -> list[Node]:
    return list(node.value) if isinstance(node, SequenceNode) else []


def _pairs(node: Node | None) -> Iterator[tuple[str, tuple[Node, Node]]]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield text_of(key) or "", (key, value)


def _entries(node: Node | None) -> Iterator[tuple[str, Node]]:
    for key, (_, value) in _pairs(node):
        yield key, value

"""The text of a policy or cases file to YAML nodes, each with its place; nothing is built of them yet.

Nodes rather than values: every scalar keeps its text and its line and column, so `NO` is a language, `1e3` a number,
and each problem can be shown where it stands. Size, depth and anchors are bounded before anything is read out of the
nodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.policy.problems import Problem, near

MAX_BYTES: Final = 1_000_000
_MAX_NODES: Final = 100_000  # anchors counted as often as they are used
_MAX_DEPTH: Final = 40
Place = tuple[str, int, int]  # file, line and column, from 1
_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})


@dataclass(slots=True)
class Source:
    """One file being read: where its problems are collected."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, node: Node | None, kind: str, message: str) -> None:
        """Note a problem at a node; without one, at the file's start."""
        line, column = place(node)
        self.problems.append(Problem(self.file, line, column, kind, message))

    def at(self, where: tuple[int, int], kind: str, message: str) -> None:
        """Note a problem at a line and column."""
        self.problems.append(Problem(self.file, *where, kind, message))

    def place(self, node: Node | None) -> Place:
        """Where a node stands."""
        return self.file, *place(node)


def place(node: Node | None) -> tuple[int, int]:
    """Line and column, from 1."""
    if node is None or node.start_mark is None:
        return 1, 1
    return node.start_mark.line + 1, node.start_mark.column + 1


def read_text(path: Path, source: Source) -> str | None:
    """The file's text; nothing when it cannot be read, with the problem noted."""
    try:
        if path.is_dir():
            source.add(None, "file", "is a folder: a policy is a file; rename the folder, or move it away")
            return None
        if path.stat().st_size > MAX_BYTES:
            source.add(None, "size", f"has {path.stat().st_size:,} bytes; a policy may have {MAX_BYTES:,}")
            return None
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        source.add(None, "encoding", f"is not UTF-8 (byte {error.start}): save it as UTF-8")
    except OSError as error:
        source.add(None, "file", f"cannot be read: {error.strerror}")
    return None


def compose(text: str, source: Source) -> Node | None:
    """The document's root node; nothing when there is none, with the problem noted."""
    if len(text) > MAX_BYTES:
        source.add(None, "size", f"has {len(text):,} characters; a policy may have {MAX_BYTES:,}")
        return None
    try:
        root: Node | None = YAML(typ="rt", pure=True).compose(text)
    except MarkedYAMLError as error:
        _note_yaml(error, source)
        return None
    except (YAMLError, ValueError, RecursionError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        source.add(None, "yaml", f"is not YAML: {first}")
        return None
    if root is None:
        source.add(
            None, "empty", "is empty: the smallest policy is `version: 1`, `routes:`, `rules: []` and `default:`"
        )
        return None
    return root if _bounded(root, source) else None


def _note_yaml(error: MarkedYAMLError, source: Source) -> None:
    mark = error.problem_mark or error.context_mark
    where = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem:
        problem = "a tab indents this line: YAML takes spaces only"
    elif "another document" in problem:
        problem = "a second document begins here (`---`): one file holds one policy"
    elif "<stream end>" in problem or "end of stream" in problem:
        problem = f"the file ends too early ({error.context or problem}): was it saved whole?"
    source.at(where, "yaml", f"is not YAML: {problem}")


def _bounded(root: Node, source: Source) -> bool:
    """Whether the tree is small enough with every anchor written out, and does not contain itself."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: Node, depth: int) -> int:
        if id(node) in sizes:
            return sizes[id(node)]
        if id(node) in open_nodes:
            source.add(node, "anchor", "an anchor contains itself: write the part out")
            return _MAX_NODES + 1
        if depth > _MAX_DEPTH:
            source.add(node, "depth", f"is nested more than {_MAX_DEPTH} levels deep")
            return _MAX_NODES + 1
        open_nodes.add(id(node))
        total = 1
        for child in _children(node):
            total += size(child, depth + 1)
            if total > _MAX_NODES:
                break
        open_nodes.discard(id(node))
        sizes[id(node)] = total
        return total

    if size(root, 0) <= _MAX_NODES:
        return True
    if not source.problems:
        source.add(root, "anchor", f"has more than {_MAX_NODES:,} values once its anchors are written out")
    return False


def _children(node: Node) -> Iterator[Node]:
    if isinstance(node, MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, SequenceNode):
        yield from node.value


def text_of(node: Node | None) -> str | None:
    """The text of a scalar as it was written; nothing for what is no scalar, or is null."""
    if not isinstance(node, ScalarNode) or (node.style is None and node.value in _NULLS):
        return None
    return str(node.value)


def shown(node: Node) -> str:
    """A short view of a node for a message."""
    if isinstance(node, ScalarNode):
        value = str(node.value)
        return repr(value if len(value) <= 60 else value[:57] + "...") if text_of(node) is not None else "nothing"
    return "a list" if isinstance(node, SequenceNode) else "a mapping"


def entries(node: Node, source: Source, *, what: str) -> list[tuple[str, Node, Node]]:
    """A mapping's entries as (key, key node, value node); anything else, and every double key, is a problem."""
    if not isinstance(node, MappingNode):
        source.add(node, "type", f"{what}: expected a mapping (`name: value`), found {shown(node)}")
        return []
    found: dict[str, tuple[str, Node, Node]] = {}
    for key_node, value in node.value:
        key = text_of(key_node)
        if key is None:
            source.add(key_node, "type", f"{what}: a key must be a name, found {shown(key_node)}")
        elif key == "<<":
            source.add(key_node, "yaml", f"{what}: merge keys (`<<`) are not supported: write the entries out")
        elif key in found:
            first = place(found[key][1])[0]
            source.add(key_node, "duplicate_key", f"{what}: {key!r} stands here a second time (first in line {first})")
        else:
            found[key] = (key, key_node, value)
    return list(found.values())


def fields(node: Node, source: Source, *, what: str, known: tuple[str, ...]) -> dict[str, Node]:
    """A mapping with a fixed set of keys; an unknown one is a problem with the nearest known name."""
    known_fields = {}
    for key, key_node, value in entries(node, source, what=what):
        if key in known:
            known_fields[key] = value
        elif not key.startswith("x-"):
            hint = near(key, known) or f" It takes {', '.join(known)}."
            source.add(key_node, "unknown_key", f"{what}: there is no {key!r}.{hint}")
    return known_fields


def items(node: Node, source: Source, *, what: str) -> list[Node]:
    """A list's items; anything else is a problem."""
    if isinstance(node, SequenceNode):
        return list(node.value)
    source.add(node, "type", f"{what}: expected a list, found {shown(node)}")
    return []


def scalar(node: Node, source: Source, *, what: str) -> str | None:
    """A scalar's text; anything else is a problem."""
    text = text_of(node)
    if text is None:
        source.add(node, "type", f"{what}: expected a text, found {shown(node)}")
    return text


def choice(node: Node, source: Source, *, what: str, known: tuple[str, ...]) -> str | None:
    """A scalar that must be one of some names."""
    text = scalar(node, source, what=what)
    if text is None or text in known:
        return text
    source.add(node, "value", f"{what}: {text!r} is not one of {', '.join(known)}.{near(text, known)}")
    return None


def flag(node: Node, source: Source, *, what: str) -> bool | None:
    """`true` or `false`; `yes` and `NO` are texts, and a problem here."""
    text = text_of(node)
    if text is not None and text.lower() in {"true", "false"}:
        return text.lower() == "true"
    hint = {"yes": " Did you mean 'true'?", "on": " Did you mean 'true'?", "no": " Did you mean 'false'?",
            "off": " Did you mean 'false'?"}.get((text or "").lower(), "")  # fmt: skip
    source.add(node, "type", f"{what}: expected true or false, found {shown(node)}.{hint}")
    return None

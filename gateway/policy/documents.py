"""The files of one policy: its own text, and what `include:` adds to it, each as YAML nodes with their places.

A policy includes one base, a base may include another. All of them lie inside the folder of the policy itself: what a
policy says is in that folder, and nobody else's file can change it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ruamel.yaml.nodes import MappingNode, Node

from gateway.policy.problems import Problem, near
from gateway.policy.source import Source, compose, fields, read_text, scalar, shown

TOP: Final = (
    "version", "description", "include", "guarantees", "routes", "overlays", "rules", "default", "aliases", "privacy",
    "time_zone", "sticky",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Document:
    """One file. `including` is the line that includes it; nothing for the policy's own."""

    source: Source
    root: MappingNode
    top: Mapping[str, Node]
    including: tuple[Source, Node] | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """The documents, the policy's own first; `whole` when each could be read. `files` also has those that could not."""

    documents: tuple[Document, ...]
    files: tuple[Path, ...]
    sources: tuple[Source, ...]
    whole: bool

    @property
    def problems(self) -> list[Problem]:
        """Those of every file, the policy's own first, each in its file's order."""
        return [
            problem for source in self.sources for problem in sorted(source.problems, key=lambda p: (p.line, p.column))
        ]


def gather(text: str, source: Source, *, path: Path | None) -> Gathered:
    """A text with all that it includes. `path` is where the text lies, or will lie; without one it includes nothing."""
    documents: list[Document] = []
    files = [path] if path else []
    sources = [source]
    including: tuple[Source, Node] | None = None
    while True:
        document = _document(text, source, including)
        if document is None:
            return Gathered(tuple(documents), tuple(files), tuple(sources), whole=False)
        documents.append(document)
        node = document.top.get("include")
        if node is None:
            return Gathered(tuple(documents), tuple(files), tuple(sources), whole=True)
        target = _target(node, source, files)
        if target is None:
            return Gathered(tuple(documents), tuple(files), tuple(sources), whole=False)
        including = (source, node)
        files.append(target)
        source = Source(str(target))
        sources.append(source)
        found = read_text(target, source)
        if found is None:
            # Said where it is included: that is the line to mend.
            problem = source.problems.pop()
            including[0].add(node, problem.kind, f"include: {target} {problem.message}{_nearby(target)}")
            return Gathered(tuple(documents), tuple(files), tuple(sources), whole=False)
        text = found


def _document(text: str, source: Source, including: tuple[Source, Node] | None) -> Document | None:
    root = compose(text, source)
    if root is None:
        return None
    if not isinstance(root, MappingNode):
        source.add(root, "type", f"a policy is a mapping that begins with `version: 1`, found {shown(root)}")
        return None
    return Document(source, root, fields(root, source, what="policy", known=TOP), including)


def _target(node: Node, source: Source, files: list[Path]) -> Path | None:
    """The file that a line includes; nothing when it may not, with the problem noted at the line."""
    name = scalar(node, source, what="include")
    if name is None:
        return None
    if not files:
        source.add(node, "include", f"include: {name!r}: this text lies in no folder, so there is nothing beside it")
        return None
    target = Path(os.path.normpath(files[-1].parent / name))
    if Path(name).is_absolute() or not _lexical(target).is_relative_to(_lexical(files[0].parent)):
        said = f"include: {name!r} is outside the folder {files[0].parent} of the policy: copy the file into it"
        source.add(node, "include", said)
        return None
    seen = [file.resolve() for file in files]
    if target.resolve() in seen:
        circle = " > ".join(str(file) for file in (*files[seen.index(target.resolve()) :], target))
        source.add(node, "include", f"include: {name!r} goes round in a circle: {circle}")
        return None
    return target


def _lexical(path: Path) -> Path:
    """The whole path without `..`, links left as they are: a ConfigMap's files are all links."""
    return Path(os.path.normpath(path.absolute()))


def _nearby(target: Path) -> str:
    """A file of the folder that may have been meant."""
    if target.exists() or not target.parent.is_dir():
        return ""
    return near(target.name, [child.name for child in target.parent.iterdir() if child.suffix in {".yaml", ".yml"}])

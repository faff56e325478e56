"""Writes the figures of the privacy cards: `python -m router_models.train.privacy_card --data ../shared/data`.

Everything between the marks `<!-- figures: NAME -->` and `<!-- end -->` of a card comes from here; the prose around
it is written by people.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from gateway.signals.privacy import PrivacyScanner
from router_models import manifest
from router_models.privacy_runtime import KINDS
from router_models.train.privacy_data import OWN, Row, own_split, read_own, read_public
from router_models.train.privacy_evaluate import RATES, Scored, Share, latencies, recall_at, score, table
from router_models.train.privacy_identifiers import EVASIONS, IDENTIFIERS, WORDED, Identifier, measure

_ROOT = manifest.FOLDER.parent
OWN_MESSAGES = _ROOT / "data" / "privacy"
CARD, DATA_CARD = _ROOT / "cards" / "privacy.md", _ROOT / "data" / "privacy-card.md"
_PLACE = re.compile(r"(<!-- figures: (?P<name>[a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
Lines = Iterator[str]


def write(path: Path, figures: dict[str, Callable[[], Lines]]) -> None:
    """Put the figures into the card's places."""
    text = path.read_text(encoding="utf-8")
    made = _PLACE.sub(
        lambda place: place.group(1) + "\n".join(figures[place.group("name")]()) + "\n" + place.group(3), text
    )
    path.write_text(made, encoding="utf-8")


def rows_of(*columns: str) -> list[str]:
    """The head of a Markdown table."""
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}"]


def shown(share: Share) -> str:
    """`94.1 % (93.0-95.2) of 1,652`."""
    if not share.total:
        return ""
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * max(low, 0):.1f}-{100 * high:.1f}) of {share.total:,}"


def model() -> Lines:
    """Which model the figures are of."""
    yield f"Of privacy.onnx `{manifest.sha256(manifest.FOLDER / 'privacy.onnx')[:16]}`."


def quality(scored: Sequence[Scored], groups: Sequence[str], *, points: str) -> Lines:
    """Recall at given false alarms, then what the operating point gives, by group."""
    yield from rows_of("false alarms on this set", "recall")
    for rate in RATES:
        yield f"| {rate:.0%} | {shown(recall_at(scored, rate)[0])} |"
    yield ""
    yield from rows_of(
        "group", points, "found", "false alarms", "class right", "patterns alone: found", "patterns alone: false alarms"
    )
    for line in table(scored, groups):
        shares = (line.recall, line.false_alarms, line.level_right, line.patterns_recall, line.patterns_false_alarms)
        yield f"| {line.group} | {line.name} | {' | '.join(map(shown, shares))} |"


def by_language(scored: Sequence[Scored]) -> Lines:
    """Our own messages: recall at 5 % false alarms of each language's own harmless ones."""
    yield from rows_of("language", "recall at 2 %", "recall at 5 %", "recall at 10 %", "harmless messages")
    for language in [*sorted({one.row.lang for one in scored}), None]:
        some = [one for one in scored if language is None or one.row.lang == language]
        harmless = sum(1 for one in some if not one.row.label)
        shares = (shown(recall_at(some, rate)[0]) for rate in (0.02, 0.05, 0.10))
        yield f"| {language or 'all'} | {' | '.join(shares)} | {harmless} |"


def missed(scored: Sequence[Scored]) -> Lines:
    """The share of texts with each kind that the operating point lets go, by language; public and own test together."""
    groups = {"es": {"es"}, "en": {"en"}, "ca, gl, eu, pt, fr": {"ca", "gl", "eu", "pt", "fr"}}
    sensitive = [one for one in scored if one.row.label]
    yield from rows_of("kind", *(f"{name}: missed" for name in groups))
    for kind in KINDS:
        some = [one for one in sensitive if kind in (one.row.kinds or ())]
        shares = []
        for languages in groups.values():
            spoken = [one for one in some if one.row.lang in languages]
            shares.append(shown(Share(sum(not one.held for one in spoken), len(spoken))))
        yield f"| {kind} | {' | '.join(shares)} |"


def identifiers(kinds: Sequence[Identifier]) -> Lines:
    """Each kind, each disguise, in percent."""
    cells = {(cell.identifier, cell.evasion): cell for cell in measure(kinds)}
    yield from rows_of("disguise", *(kind.name for kind in kinds))
    for evasion in EVASIONS:
        values = (cells[kind.name, evasion] for kind in kinds)
        yield f"| {evasion} | {' | '.join(f'{100 * cell.hits / cell.total:.1f}' for cell in values)} |"


def times(scanner: PrivacyScanner, rows: Sequence[Row]) -> Lines:
    """Scan times."""
    yield from rows_of("characters", "p50, ms", "p99, ms")
    for one in latencies(scanner, [row.text for row in rows]):
        yield f"| {one.characters:,} | {one.p50_ms:.2f} | {one.p99_ms:.2f} |"


def counts() -> Lines:
    """How many of our own messages there are."""
    raw = [
        json.loads(line)
        for file in sorted(OWN_MESSAGES.glob("*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    levels = ("public", "internal", "personal", "special", "secret")
    yield from rows_of("language", *levels, "all", "pairs", "held back for dev", "held back for test")
    for language in [*sorted({row["lang"] for row in raw}), None]:
        some = [row for row in raw if language in {None, row["lang"]}]
        level = Counter(row["level"] for row in some)
        split = Counter(own_split(row["pair"]) for row in some)
        numbers = [
            *(level[name] for name in levels),
            len(some),
            len({row["pair"] for row in some}),
            split["dev"],
            split["test"],
        ]
        yield f"| {language or 'all'} | {' | '.join(map(str, numbers))} |"
    yield ""
    yield from rows_of("kind", "messages")
    for kind, number in Counter(kind for row in raw for kind in row["kinds"]).most_common():
        yield f"| {kind} | {number} |"


def main() -> None:
    """Measure, and write both cards."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder with privacy/")
    data = arguments.parse_args().data / "privacy"
    balanced, strict = (PrivacyScanner.load(manifest.FOLDER, operating_point=name) for name in ("balanced", "strict"))
    public, own = read_public(data, "test"), read_own(OWN_MESSAGES)["test"]
    scored, held, stricter = score(public, balanced), score(own, balanced), score([*public, *own], strict)
    write(
        CARD,
        {
            "model": model,
            "public": lambda: quality(scored, ("language", "kind", "level", "evasion", "source"), points="balanced"),
            "own": lambda: by_language(held),
            "own-balanced": lambda: quality(held, ("language", "kind", "level"), points="balanced"),
            "strict": lambda: quality([one for one in stricter if one.row.source != OWN], ("level",), points="strict"),
            "missed": lambda: missed([*scored, *held]),
            "identifiers": lambda: identifiers(IDENTIFIERS),
            "worded": lambda: identifiers(WORDED),
            "latency": lambda: times(balanced, [row for row in public if row.label is not None]),
        },
    )
    write(DATA_CARD, {"counts": counts})


if __name__ == "__main__":
    main()

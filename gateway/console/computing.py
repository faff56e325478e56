"""What takes long: proofs, simulations, reading the whole audit. Run by `apart`, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from zoneinfo import ZoneInfo

import orjson

from gateway.ledger.chain_check import check
from gateway.ledger.prices import PriceBook
from gateway.ledger.replay import open_history, read_past
from gateway.ledger.report import Period, month_period
from gateway.ledger.store import open_engine
from gateway.policy.cases import Classify
from gateway.policy.check import check_loaded
from gateway.policy.load import parse_policy
from gateway.policy.rules import Policy
from gateway.policy.simulate import simulate
from gateway.policy.simulation import Language
from gateway.settings import Settings
from gateway.telemetry.audit import checked_values
from gateway.telemetry.audit_report import month_report
from gateway.telemetry.audit_text import as_csv, as_markdown
from gateway.types import Model


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy's text that would stand in a file, and what it is tried with."""

    text: str
    file: Path
    models: Mapping[str, Model]
    settings: Settings
    prices: PriceBook
    language: Language


def tried(
    draft: Draft, classifier: Callable[[Policy], Classify], period: Period | None
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """What `cauce check` says of a draft, its cases too; what `simulate` does, if it holds and there is a period."""
    loaded = parse_policy(draft.text, name=draft.file.stem, file=str(draft.file), path=draft.file)
    report = check_loaded(loaded, draft.file, models=draft.models, classify=classifier)
    if period is None or not report.ok or (policy := loaded.policy) is None:
        return report.as_values(), None
    past = read_past(open_history(draft.settings.ledger), period)
    zone = ZoneInfo(policy.time_zone or draft.settings.time_zone)
    found = simulate(past, policy=policy, models=draft.models, prices=draft.prices, zone=zone, language=draft.language)
    return report.as_values(), found.as_values()


def verify(ledger: str) -> dict[str, Any]:
    """What `cauce audit verify` finds."""
    return checked_values(check(open_engine(ledger)))


def written(ledger: str, month: str, time_zone: str, language: Literal["es", "en"], form: str) -> str:
    """What `cauce audit export` writes."""
    period = month_period(month, ZoneInfo(time_zone))
    report = month_report(open_engine(ledger), period, month=month, time_zone=time_zone)
    if form == "json":
        return orjson.dumps(report).decode()
    return as_csv(report, language) if form == "csv" else as_markdown(report, language)

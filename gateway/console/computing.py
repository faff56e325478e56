"""What takes long: proofs, simulations, reading the whole audit. Run by `apart`, in a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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


def checked(
    text: str, file: Path, models: Mapping[str, Model], classifier: Callable[[Policy], Classify]
) -> dict[str, Any]:
    """What `cauce check` says of a text that would stand in the file, its cases included."""
    loaded = parse_policy(text, name=file.stem, file=str(file), path=file)
    return check_loaded(loaded, file, models=models, classify=classifier).as_values()


def simulated(  # noqa: PLR0913, PLR0917 - all that the other process is given
    text: str,
    file: Path,
    models: Mapping[str, Model],
    prices: PriceBook,
    settings: Settings,
    period: Period,
    language: Language,
) -> dict[str, Any]:
    """What `cauce simulate` says of a text that would stand in the file. The text has been checked."""
    policy = parse_policy(text, name=file.stem, file=str(file), path=file).policy
    if policy is None:
        raise ValueError("a policy with problems cannot be simulated")
    past = read_past(open_history(settings.ledger), period)
    zone = ZoneInfo(policy.time_zone or settings.time_zone)
    return simulate(past, policy=policy, models=models, prices=prices, zone=zone, language=language).as_values()


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

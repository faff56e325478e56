"""The ledger in the FinOps Open Cost and Usage Specification, FOCUS 1.2 (https://focus.finops.org).

A row is a day's calls of one key to one model, by what they were charged for; a correction is a row of its own. Costs
are exact decimals of a USD. Columns whose condition does not hold here (reservations, commitments, public price lists)
are left out, as the specification wants; our own begin with `x_`. Calls of unknown cost are no row: they are counted.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final
from zoneinfo import ZoneInfo

import orjson
from sqlalchemy import Connection, Engine, and_, func, select

from gateway.ledger.daily import day_bounds
from gateway.ledger.report import Period, bucket, month_period, snapshot, within
from gateway.ledger.tables import adjustments, attempts, entries


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the specification: its type, whether it may be null, and its values where they are a closed set."""

    name: str
    kind: str  # decimal, string, datetime or json
    null: bool = False
    values: tuple[str, ...] = ()


COLUMNS: Final = (
    Column("BilledCost", "decimal"),
    Column("BillingAccountId", "string"),
    Column("BillingAccountName", "string", null=True),
    Column("BillingAccountType", "string", null=True),
    Column("BillingCurrency", "string"),
    Column("BillingPeriodEnd", "datetime"),
    Column("BillingPeriodStart", "datetime"),
    Column("ChargeCategory", "string", values=("Usage", "Purchase", "Tax", "Credit", "Adjustment")),
    Column("ChargeClass", "string", null=True, values=("Correction",)),
    Column("ChargeDescription", "string", null=True),
    Column("ChargeFrequency", "string", values=("One-Time", "Recurring", "Usage-Based")),
    Column("ChargePeriodEnd", "datetime"),
    Column("ChargePeriodStart", "datetime"),
    Column("ConsumedQuantity", "decimal", null=True),
    Column("ConsumedUnit", "string", null=True),
    Column("ContractedCost", "decimal"),
    Column("EffectiveCost", "decimal"),
    Column("InvoiceId", "string", null=True),
    Column("InvoiceIssuerName", "string"),
    Column("ListCost", "decimal"),
    Column("PricingCategory", "string", null=True, values=("Standard", "Dynamic", "Committed", "Other")),
    Column("PricingQuantity", "decimal", null=True),
    Column("PricingUnit", "string", null=True),
    Column("ProviderName", "string"),
    Column("PublisherName", "string"),
    Column("ResourceId", "string", null=True),
    Column("ResourceName", "string", null=True),
    Column("ResourceType", "string", null=True),
    Column("ServiceCategory", "string", values=("AI and Machine Learning",)),
    Column("ServiceName", "string"),
    Column("ServiceSubcategory", "string", values=("Generative AI",)),
    Column("SubAccountId", "string", null=True),
    Column("SubAccountName", "string", null=True),
    Column("SubAccountType", "string", null=True),
    Column("Tags", "json", null=True),
    Column("x_Calls", "decimal"),
    Column("x_CachedTokens", "decimal", null=True),
    Column("x_CompletionTokens", "decimal", null=True),
    Column("x_PriceSource", "string", null=True),
    Column("x_PromptTokens", "decimal", null=True),
    Column("x_Route", "string", null=True),
    Column("x_Zone", "string"),
)
_GROUP: Final = ("provider", "model", "upstream_model", "zone", "price_source")
_WHO: Final = ("org", "team", "app", "caller", "route")
_TOKENS: Final = ("prompt_tokens", "cached_tokens", "completion_tokens")
_LOCAL: Final = "machine time"


def focus(engine: Engine, *, period: Period, zone: ZoneInfo) -> Iterator[dict[str, Any]]:
    """The rows of a period, by day. Money is `Decimal` USD, moments are UTC."""
    with snapshot(engine) as connection:
        for key, sums in sorted(_days(connection, period, zone).items(), key=lambda item: item[0][0]):
            yield _usage(key, sums, zone)
        for row in connection.execute(_corrections(period)):
            yield _correction(row, zone)


def unknown_calls(engine: Engine, *, period: Period) -> int:
    """The calls of a period whose cost is not known, which are in no row."""
    joined = select(func.count()).select_from(attempts).join(entries, entries.c.request_id == attempts.c.request_id)
    with snapshot(engine) as connection:
        return int(connection.execute(joined.where(within(period), attempts.c.cost_nano_usd.is_(None))).scalar_one())


def _days(connection: Connection, period: Period, zone: ZoneInfo) -> dict[tuple[Any, ...], list[int]]:
    """Cost, calls, microseconds and tokens by day and group."""
    groups = [*(attempts.c[name] for name in _GROUP), *(entries.c[name] for name in _WHO)]
    sums = [func.sum(func.coalesce(attempts.c[name], 0)) for name in ("cost_nano_usd", "duration_us", *_TOKENS)]
    when = bucket()  # one for both places: Postgres sees two expressions where their numbers are two parameters
    wanted = (
        select(when, *groups, func.count(), *sums)
        .join_from(attempts, entries, entries.c.request_id == attempts.c.request_id)
        .where(within(period), attempts.c.cost_nano_usd.is_not(None))
        .group_by(when, *groups)
    )
    found: dict[tuple[Any, ...], list[int]] = {}
    width = 1 + len(groups)
    for row in connection.execute(wanted):
        key = (day_bounds(row[0], zone)[0], *row[1:width])
        amounts = [int(value) for value in row[width:]]
        before = found.get(key)
        found[key] = amounts if before is None else [a + b for a, b in zip(before, amounts, strict=True)]
    return found


def _usage(key: tuple[Any, ...], sums: list[int], zone: ZoneInfo) -> dict[str, Any]:
    group = dict(zip(("day", *_GROUP, *_WHO), key, strict=True))
    calls, cost, microseconds, prompt, cached, completion = sums
    local = group["price_source"] == _LOCAL
    quantity = Decimal(microseconds) / 1_000_000 if local else Decimal(prompt + completion)
    unit = "Seconds" if local else "Tokens"
    return {
        **_charge(group, cost, zone),
        "ChargeCategory": "Usage",
        "ChargeClass": None,
        "ChargeDescription": f"{calls} calls to {group['upstream_model']}",
        "ConsumedQuantity": quantity,
        "ConsumedUnit": unit,
        "PricingCategory": "Standard",
        "PricingQuantity": quantity,
        "PricingUnit": unit,
        "x_Calls": Decimal(calls),
        "x_CachedTokens": Decimal(cached),
        "x_CompletionTokens": Decimal(completion),
        "x_PromptTokens": Decimal(prompt),
    }


def _corrections(period: Period) -> Any:
    first = attempts.alias("first")
    own = and_(first.c.request_id == entries.c.request_id, first.c.number == 0)
    names = [*(first.c[name] for name in _GROUP), *(entries.c[name] for name in _WHO)]
    return (
        select(entries.c.time_us, *names, adjustments.c.nano_usd, adjustments.c.kind, adjustments.c.reason)
        .join_from(adjustments, entries, entries.c.request_id == adjustments.c.request_id)
        .join(first, own)
        .where(within(period))
        .order_by(adjustments.c.time_us, adjustments.c.id)
    )


def _correction(row: Any, zone: ZoneInfo) -> dict[str, Any]:
    named = row._mapping
    group = {"day": day_bounds(named["time_us"], zone)[0], **{name: named[name] for name in (*_GROUP, *_WHO)}}
    return {
        **_charge(group, named["nano_usd"], zone),
        "ChargeCategory": "Adjustment",
        "ChargeClass": "Correction",
        "ChargeDescription": f"{named['kind']}: {named['reason']}",
        "ConsumedQuantity": None,
        "ConsumedUnit": None,
        "PricingCategory": None,
        "PricingQuantity": None,
        "PricingUnit": None,
        "x_Calls": Decimal(0),
        "x_CachedTokens": None,
        "x_CompletionTokens": None,
        "x_PromptTokens": None,
    }


def _charge(group: dict[str, Any], nano_usd: int, zone: ZoneInfo) -> dict[str, Any]:
    """What every row says: who, what, when, and the cost, which no discount makes four of."""
    start, end = day_bounds(group["day"], zone)
    month = month_period(dt.datetime.fromtimestamp(start // 1_000_000, zone).strftime("%Y-%m"), zone)
    cost = Decimal(nano_usd) / 1_000_000_000
    local = group["price_source"] == _LOCAL
    return {
        **dict.fromkeys(("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost),
        "BillingAccountId": group["org"] or "default",
        "BillingAccountName": group["org"] or None,
        "BillingAccountType": "Organisation",
        "BillingCurrency": "USD",
        "BillingPeriodStart": _moment(month.start_us or 0),
        "BillingPeriodEnd": _moment(month.end_us or 0),
        "ChargeFrequency": "Usage-Based",
        "ChargePeriodStart": _moment(start),
        "ChargePeriodEnd": _moment(end),
        "InvoiceId": None,
        "InvoiceIssuerName": "internal" if local else group["provider"],
        "ProviderName": "internal" if local else group["provider"],
        "PublisherName": group["provider"],
        "ResourceId": group["model"],
        "ResourceName": group["upstream_model"],
        "ResourceType": "Model",
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": group["upstream_model"],
        "ServiceSubcategory": "Generative AI",
        "SubAccountId": group["team"] or None,
        "SubAccountName": group["team"] or None,
        "SubAccountType": "Team" if group["team"] else None,
        "Tags": orjson.dumps({"app": group["app"], "key": group["caller"]}).decode(),
        "x_PriceSource": group["price_source"] or None,
        "x_Route": group["route"] or None,
        "x_Zone": group["zone"],
    }


def _moment(time_us: int) -> str:
    return dt.datetime.fromtimestamp(time_us // 1_000_000, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

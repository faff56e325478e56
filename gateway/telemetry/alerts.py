"""Alerts on budgets: a log line, a metric and, where the operator names one, a webhook.

The webhook is an outward connection that exists only because `budgets.webhook` is configured; it is sent figures and
the budget's name, never anything of a request. `text` makes it readable where Slack's or Mattermost's shape is taken.
"""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Callable
from typing import Final, Literal

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from gateway.ledger.budgets import Alert
from gateway.telemetry.logs import fields

_log = logging.getLogger("cauce.budgets")
_TIMEOUT: Final = aiohttp.ClientTimeout(total=5)
_TRIES: Final = 3
_SAID: Final[dict[str, str]] = {
    "en": "Cauce: {scope} has spent {percent} % of its budget of {amount:g} USD ({period}).",
    "es": "Cauce: {scope} ha gastado el {percent} % de su presupuesto de {amount:g} USD ({period}).",
}


class BudgetAlerts:
    """Sends each alert once. `counted` hears whether it went out: `sent`, `failed`, or `logged` without a webhook."""

    def __init__(
        self, url: str, *, language: Literal["es", "en"], session: Callable[[], aiohttp.ClientSession],
        counted: Callable[[int, str], None],
    ) -> None:  # fmt: skip
        self._url = url
        self._language = language
        self._session = session
        self._counted = counted

    async def __call__(self, alert: Alert) -> None:
        """Tell it; a webhook that does not answer is tried three times, then it is a line in the log."""
        document = document_of(alert, self._language)
        place = fields(budget=alert.span.name, threshold=alert.threshold, spent_nano_usd=alert.use.spent)
        _log.warning("a budget has passed a threshold", extra=place)
        if not self._url:
            self._counted(alert.threshold, "logged")
            return
        try:
            async for attempt in AsyncRetrying(
                stop=stop_after_attempt(_TRIES),
                wait=wait_random_exponential(multiplier=0.2, max=5),
                retry=retry_if_exception_type((aiohttp.ClientError, OSError)),
                reraise=True,
            ):
                with attempt:
                    await self._post(document)
        except (aiohttp.ClientError, OSError) as error:  # a timeout is an OSError
            _log.error("an alert did not reach its webhook", extra=fields(error=type(error).__name__))
            self._counted(alert.threshold, "failed")
        else:
            self._counted(alert.threshold, "sent")

    async def _post(self, document: dict[str, object]) -> None:
        reply = await self._session().post(self._url, json=document, timeout=_TIMEOUT, allow_redirects=False)
        async with reply:
            reply.raise_for_status()


def document_of(alert: Alert, language: Literal["es", "en"]) -> dict[str, object]:
    """What a webhook is sent."""
    budget, span, use = alert.budget, alert.span, alert.use
    end = None if span.end_us is None else dt.datetime.fromtimestamp(span.end_us / 1e6, dt.UTC).isoformat()
    amount = budget.nano_usd + use.carried
    text = _SAID[language].format(
        scope=budget.scope,
        percent=alert.threshold,
        amount=amount / 1e9,
        period=span.name.removeprefix(budget.name + "/"),
    )
    return {
        "event": "budget",
        "text": text,
        "scope": budget.scope,
        "period": span.name.removeprefix(f"{budget.scope}/"),
        "threshold_percent": alert.threshold,
        "spent_nano_usd": use.spent,
        "reserved_nano_usd": use.reserved,
        "limit_nano_usd": amount,
        "hard": budget.hard,
        "resets_at": end,
    }

"""`cauce simulate`: what a policy would have done with the requests of the past, before it goes live."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click
import orjson
from rich.console import Console
from rich.progress import Progress

from gateway.cli.check import classifiers
from gateway.cli.explain import Explainer, policy_path, read_line
from gateway.cli.report import read_period
from gateway.cli.simulated import show
from gateway.errors import BadRequest, CauceError, ConfigError
from gateway.ledger.costing import price_book
from gateway.ledger.prices import PriceBook
from gateway.ledger.replay import BATCH, Call, Past, count, models_of, open_history, read_calls, read_past
from gateway.ledger.report import Period
from gateway.policy.check import NOMINAL, check_file
from gateway.policy.load import load_policy
from gateway.policy.rules import AUTO, Policy
from gateway.policy.simulate import simulate
from gateway.policy.simulation import History, Language
from gateway.settings import Settings, load_settings
from gateway.types import Attempt, Model, Usage

_PAGE = 120  # columns, where there is no terminal to fill


@click.command()
@click.argument("policy", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--since", help="The ledger's requests from this long ago, e.g. 24h, 30d; none: all of them.")
@click.option("--month", help="Those of one month of the business's calendar, e.g. 2026-11.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file instead of the ledger: {id, signals} or {id, text | messages} a line, as `explain --jsonl` takes and "
    "gives them, with `usage` {prompt_tokens, completion_tokens} where a cost is wanted. They come from where the "
    "policy in force sends them.",
)
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output; money is integer nano-USD.")
@click.option("--lang", "language", type=click.Choice(["es", "en"]), help="Language of it; none: the configured.")
@click.pass_context
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    ctx: click.Context,
    policy: Path,
    since: str | None,
    month: str | None,
    against: Path | None,
    config: Path | None,
    as_json: bool,
    language: Language | None,
) -> None:
    """What POLICY would have done: requests that move, cost, expected quality, latency, what would leave the premises.

    Replays signals, so it needs no text and makes no call. Exit 1 when `cauce check` refuses POLICY.
    """
    if (since is not None) + (month is not None) + (against is not None) > 1:
        raise click.UsageError("--since, --month and --against cannot go together")
    settings = load_settings(config)
    period = read_period(month, since, ZoneInfo(settings.time_zone))
    refused = _refused(policy, settings)
    if refused is not None:
        click.echo(
            "".join(f"{problem}\n" for problem in refused) + f"{policy}: refused: nothing was replayed", err=True
        )
        ctx.exit(1)
    chosen = language or settings.language
    scene = _file_scene(policy, against, settings) if against else _ledger_scene(policy, period, settings)
    with _progress(scene) as batches, _without_collecting():
        found = simulate(
            batches,
            policy=scene.policy,
            models=scene.models,
            prices=scene.prices,
            zone=scene.zone,
            history=scene.history,
            language=chosen,
        )
    if as_json:
        click.echo(orjson.dumps({**found.as_values(), "nominal": scene.models is NOMINAL}, option=orjson.OPT_INDENT_2))
    else:
        console = Console()
        if not console.is_terminal:
            console = Console(width=_PAGE)
        show(found, console, chosen, nominal=scene.models is NOMINAL)


def _refused(policy: Path, settings: Settings) -> Sequence[object] | None:
    """The errors of a policy that `cauce check` refuses."""
    models = {model.id: model for model in settings.catalogue()} or None
    report = check_file(policy, models=models, classify=classifiers(settings))
    return None if report.ok else report.errors


@dataclass(frozen=True, slots=True)
class _Scene:
    """All that a simulation needs. `zone`: where the hours of requests are read; none: they say their own."""

    policy: Policy
    models: Mapping[str, Model]
    prices: PriceBook
    zone: ZoneInfo | None
    history: History | None
    batches: Iterable[Sequence[Past]]
    total: int


def _ledger_scene(file: Path, period: Period, settings: Settings) -> _Scene:
    """The entries of a period; without models in cauce.yaml, those that were called then."""
    engine = open_history(settings.ledger)
    models = {model.id: model for model in settings.catalogue()} or models_of(engine, period) or NOMINAL
    policy = load_policy(file, models=models)
    zone = ZoneInfo(policy.time_zone or settings.time_zone)
    total = count(engine, period)
    return _Scene(policy, models, price_book(settings), zone, None, read_past(engine, period), total)


@contextlib.contextmanager
def _progress(scene: _Scene) -> Iterator[Iterator[Sequence[Past]]]:
    """The batches, and on a terminal a bar that says how far they are."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("simulate", total=scene.total)

        def counted() -> Iterator[Sequence[Past]]:
            for batch in scene.batches:
                yield batch
                bar.advance(task, len(batch))

        yield counted()


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Rows hold no cycles: looking for some took a quarter of the time of a million."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- requests of a file ---------------------------------------------------------------------------------------------


def _file_scene(file: Path, against: Path, settings: Settings) -> _Scene:
    """The requests of a file, as the policy in force sends them; what models take, from the ledger if there is one."""
    history = _history(settings)
    models = {model.id: model for model in settings.catalogue()} or NOMINAL
    prices = price_book(settings)
    old = load_policy(policy_path(None, settings), models=models)
    explainer = Explainer(old, models, _lazily(settings, old))
    lines = _Lines(against, explainer, prices, history)
    with against.open("rb") as handle:
        total = sum(1 for _ in handle)
    return _Scene(load_policy(file, models=models), models, prices, None, history, lines.batches(), total)


def _history(settings: Settings) -> History:
    history = History()
    with contextlib.suppress(ConfigError):  # no ledger yet: latencies are unknown, and said to be
        for calls in read_calls(open_history(settings.ledger), Period()):
            for call in calls:
                history.add(call)
    return history


def _lazily(settings: Settings, policy: Policy) -> Callable[[Any], Any]:
    """What classifies texts, built for the first one: signals need no models."""
    built: list[Callable[[Any], Any]] = []

    def classify(asked: Any) -> Any:
        if not built:
            built.append(classifiers(settings)(policy))
        return built[0](asked)

    return classify


class _Lines:
    """A file of requests, read as requests of the past that the policy in force has just decided."""

    def __init__(self, file: Path, explainer: Explainer, prices: PriceBook, history: History) -> None:
        self._file = file
        self._explainer = explainer
        self._prices = prices
        self._history = history
        self._now_ns = time.time_ns()

    def batches(self) -> Iterator[list[Past]]:
        """Its requests, so many at once. A line that is none is wrong use."""
        batch: list[Past] = []
        with self._file.open("rb") as handle:
            for number, raw in enumerate(handle, 1):
                if not raw.strip():
                    continue
                try:
                    batch.append(self._past(raw))
                except CauceError as error:
                    raise click.BadParameter(
                        f"{self._file}:{number}: {error.message}", param_hint="--against"
                    ) from None
                if len(batch) == BATCH:
                    yield batch
                    batch = []
        yield batch

    def _past(self, raw: bytes) -> Past:
        row = read_line(raw)
        told = self._explainer.line(raw)
        if "error" in told and told["error"]["code"] != "model_not_found":
            raise BadRequest(told["error"]["message"])
        signals, decision = told.get("signals", {}), told.get("decision", {})
        caller = signals.get("caller", {})
        model = self._explainer.models.get(decision.get("model") or "")
        call = self._call(row, model) if model else None
        return Past(
            request_id=str(told["id"]),
            time_us=self._now_ns // 1000,
            caller=caller.get("key", ""),
            team=caller.get("team", ""),
            app=caller.get("app", ""),
            policy=self._explainer.policy.name,
            policy_revision=self._explainer.policy.revision,
            rule=decision.get("rule", ""),
            route=decision.get("route", ""),
            model=model.id if model else "",
            zone=model.zone.label if model else "",
            data_class=signals.get("data", ""),
            outcome="ok" if model else "refused",
            code="" if model else "no_allowed_model",
            cost_nano_usd=call.cost_nano_usd if call else 0,
            signals={**signals, "tags": caller.get("tags", []), "requested": row.get("model") or AUTO},
            calls=(call,) if call else (),
        )

    def _call(self, row: Mapping[str, Any], model: Model) -> Call:
        """The call that the policy in force would make."""
        usage = _usage(row)
        return Call(
            model.id,
            model.zone.label,
            model.kind,
            outcome="ok",
            rejected_by="",
            duration_us=None,
            prompt_tokens=usage.prompt_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            cost_nano_usd=self._cost(model, usage) if usage else None,
        )

    def _cost(self, model: Model, usage: Usage) -> int | None:
        seconds = 0.0
        if self._prices.by_time(model):
            speed = self._history.seconds_a_token(model.id)
            if speed is None:
                return None
            seconds = speed * usage.completion_tokens
        return self._prices.charge(Attempt(model, self._now_ns, seconds=seconds, usage=usage)).nano_usd


def _usage(row: Mapping[str, Any]) -> Usage | None:
    """The tokens of a line: OpenAI's `usage`, or as much of it as is needed."""
    given = row.get("usage")
    if given is None:
        return None
    names = ("prompt_tokens", "completion_tokens")
    if not isinstance(given, dict) or not all(type(given.get(name)) is int and given[name] >= 0 for name in names):
        raise BadRequest("`usage` must hold prompt_tokens and completion_tokens, whole numbers from 0")
    return Usage(given["prompt_tokens"], given["completion_tokens"])

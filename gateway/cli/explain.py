"""`cauce explain`: what would be decided for a query, and why. No call is made."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import click
import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gateway.errors import BadJson, BadRequest, CauceError
from gateway.ledger.costing import machine_of, price_book
from gateway.ledger.prices import Machine, PriceBook
from gateway.policy.cases import Classify, Message
from gateway.policy.check import NOMINAL
from gateway.policy.decide import decide
from gateway.policy.load import SHIPPED, load_policy
from gateway.policy.rules import AUTO, Policy
from gateway.policy.signal_values import NOT_SIGNALS, as_values, from_values, read_signals
from gateway.policy.source import Source, compose
from gateway.policy.trace import decision_values, explained
from gateway.settings import Settings, load_settings
from gateway.types import Model, Signals, Zone

Language = Literal["es", "en"]


@dataclass(frozen=True, slots=True)
class Explainer:
    """All that a decision needs: the policy, the models, and what turns a request into signals."""

    policy: Policy
    models: Mapping[str, Model]
    classify: Classify

    def line(self, raw: bytes) -> dict[str, Any]:
        """One line of `--jsonl`: `{id, text | messages | signals}` to `{id, signals, decision}` or `{id, error}`."""
        identity: object = None
        try:
            row = read_line(raw)
            identity = row.get("id")
            signals, asked = self._signals(row)
            decision = decide(signals, policy=self.policy, models=self.models, requested=asked)
        except CauceError as error:
            return {"id": identity, "error": {"code": error.code, "message": error.message}}
        return {"id": identity, "signals": as_values(signals), "decision": decision_values(decision, self.models)}

    def _signals(self, row: Mapping[str, Any]) -> tuple[Signals, str]:
        """The signals of a line, given or classified, and the model that it asks for."""
        if isinstance(row.get("signals"), dict) and "text" not in row and "messages" not in row:
            return from_values(row["signals"]), _asked(row)
        request = _request(row)
        return self.classify(request), _asked(row)

    def full(self, signals: Signals, *, requested: str, language: Language) -> dict[str, Any]:
        """Everything about one request."""
        decision = decide(signals, policy=self.policy, models=self.models, requested=requested)
        return explained(
            signals, decision, policy=self.policy, models=self.models, requested=requested, language=language
        )


@click.command()
@click.argument("text", required=False)
@click.option(
    "--jsonl",
    is_flag=True,
    help="Many: {id, text | messages | signals} a line from stdin, {id, signals, decision} a line out.",
)
@click.option(
    "--signals", "given", help="Signals instead of a text, as JSON or YAML: a counter-example of `check`, say."
)
@click.option("--model", "requested", help="The model that the caller asks for; none: auto.")
@click.option(
    "--policy", "policy_file", type=click.Path(path_type=Path), help="Policy to follow; none: the configured one."
)
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option(
    "--lang", "language", type=click.Choice(["es", "en"]), help="Language of the explanation; none: the configured."
)
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    text: str | None,
    jsonl: bool,
    given: str | None,
    requested: str | None,
    policy_file: Path | None,
    config: Path | None,
    as_json: bool,
    language: Language | None,
) -> None:
    """Signals, rules tried, route, ladder, zone and price of a query. No call is made, nothing is kept."""
    if (text is not None) + jsonl + (given is not None) != 1:
        raise click.UsageError('give a text (`cauce explain "..."`), or --signals, or --jsonl with lines on stdin')
    if text is not None and not _is_unicode(text):
        raise click.UsageError("the text is not valid UTF-8")
    settings = load_settings(config)
    models = {model.id: model for model in settings.catalogue()} or NOMINAL
    policy = load_policy(policy_path(policy_file, settings), models=models)
    explainer = Explainer(policy, models, _no_classifier if given is not None else _classifier(settings, policy))
    if jsonl:
        write_lines(explain_lines(sys.stdin.buffer, explainer), sys.stdout.buffer.write, sys.stdout.buffer.flush)
        return
    asked = requested
    if given is not None:
        signals, named = parse_signals(given)
        asked = requested or named
    else:
        signals = explainer.classify(text or "")
    told = explainer.full(signals, requested=asked or AUTO, language=language or settings.language)
    told["cost"] = price_estimates(told["decision"]["ladder"], models, signals.prompt_tokens, settings)
    told["nominal"] = models is NOMINAL
    told["why"] = _why(text, settings, language or settings.language) if text is not None else None
    if as_json:
        click.echo(orjson.dumps(told, option=orjson.OPT_INDENT_2))
    else:
        show(told, Console(), language or settings.language)


def _is_unicode(text: str) -> bool:
    """False for what the terminal sent in another encoding: Python keeps such bytes as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _classifier(settings: Settings, policy: Policy) -> Classify:
    from gateway.reading import build_classifier  # noqa: PLC0415 - loads the models: --signals and --help need none

    return build_classifier(settings, policy)


def _why(text: str, settings: Settings, language: Language) -> dict[str, Any]:
    """Why the router says what it says of a text."""
    from gateway.reading import build_scorer  # noqa: PLC0415 - loads the models: --signals and --help need none
    from router_models.why import sentence, why  # noqa: PLC0415

    scorer = build_scorer(settings)
    told = why(text, inputs=scorer.inputs, score=scorer.calibrated)
    return {"sentence": sentence(told, language), **asdict(told)}


def _no_classifier(_request: str | list[Message]) -> Signals:
    raise BadRequest("signals were given: there is no text to classify")


def policy_path(chosen: Path | None, settings: Settings) -> Path:
    """The policy in force: the one chosen, the configured one, `policies/default.yaml` here, or the shipped default."""
    if chosen is not None:
        return chosen
    if settings.policy:
        return Path(settings.policy)
    here = Path("policies") / "default.yaml"
    return here if here.exists() else SHIPPED / "default.yaml"


# --- requests -------------------------------------------------------------------------------------------------------


def explain_lines(lines: Iterable[bytes], explainer: Explainer) -> Iterator[dict[str, Any]]:
    """One answer a line, in order; empty lines are passed over, bad ones answered with an error."""
    for raw in lines:
        if raw.strip():
            yield explainer.line(raw)


def write_lines(
    answers: Iterable[dict[str, Any]], write: Callable[[bytes], object], flush: Callable[[], object]
) -> None:
    """Answers as JSON lines, each sent at once: whoever pipes lines in may wait for each."""
    for answer in answers:
        write(orjson.dumps(answer, option=orjson.OPT_APPEND_NEWLINE))
        flush()


def read_line(raw: bytes) -> dict[str, Any]:
    """The object on a line; raises `BadJson` or `BadRequest`."""
    try:
        row = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise BadJson(f"the line is not valid JSON: {error.msg}") from None
    if not isinstance(row, dict):
        raise BadRequest("a line must be an object: {id, text | messages}")
    return row


def _request(row: Mapping[str, Any]) -> str | list[Message]:
    """The text or messages of a line."""
    text, messages = row.get("text"), row.get("messages")
    if (text is None) == (messages is None):
        raise BadRequest("a line needs either `text` or `messages`, or `signals`")
    if text is not None and not isinstance(text, str):
        raise BadRequest("`text` must be a string")
    if messages is not None and not (
        isinstance(messages, list) and messages and all(isinstance(m, dict) for m in messages)
    ):
        raise BadRequest("`messages` must be a list of at least one {role, content}")
    return text if text is not None else (messages or [])


def _asked(row: Mapping[str, Any]) -> str:
    """The model that a line asks for."""
    model = row.get("model")
    if model is not None and not isinstance(model, str):
        raise BadRequest("`model` must be a string")
    return model or AUTO


def parse_signals(given: str) -> tuple[Signals, str | None]:
    """Signals, and the model asked for, out of JSON or YAML; what else a counter-example says is passed over."""
    source = Source("--signals")
    root = compose(given, source)
    found = read_signals(root, source, ignore=NOT_SIGNALS) if root is not None else {}
    if source.problems:
        raise click.BadParameter("; ".join(problem.message for problem in source.problems), param_hint="--signals")
    keys = {key.value: value.value for key, value in root.value} if root is not None else {}
    requested = keys.get("requested")
    return Signals(**found), requested if isinstance(requested, str) else None


# --- prices ---------------------------------------------------------------------------------------------------------


def price_estimates(
    ladder: Iterable[str], models: Mapping[str, Model], prompt_tokens: int, settings: Settings
) -> list[dict[str, Any]]:
    """What the prompt would cost at each model of the ladder, and a thousand tokens of answer; unknown is said."""
    machine, book = machine_of(settings), price_book(settings)
    today = dt.datetime.now(dt.UTC).date()
    return [_estimate(models[name], book, machine, prompt_tokens, today) for name in ladder]


def _estimate(model: Model, book: PriceBook, machine: Machine, prompt_tokens: int, today: dt.date) -> dict[str, Any]:
    if model.zone is Zone.PREMISES:
        return {"model": model.id, "source": "machine time", "nano_usd_per_second": machine.cost(1.0)}
    price = book.price(model, today)
    if price is None:
        return {"model": model.id, "source": "unknown"}
    return {
        "model": model.id,
        "source": price.source,
        "prompt_nano_usd": price.prompt * prompt_tokens // 1_000_000,
        "completion_nano_usd_per_1000_tokens": price.completion // 1000,
    }


# --- for people -----------------------------------------------------------------------------------------------------

_SAID: dict[Language, dict[str, str]] = {
    "en": {
        "signals": "Signals",
        "found": "Found",
        "rules": "Rules, in order",
        "none_tried": "no rule was tried: the request names its model or route",
        "default": "no rule matched: the default",
        "route": "Route",
        "rule": "rule",
        "ladder": "Ladder",
        "nobody": "no model may answer",
        "turns_down": "Turns down",
        "zone": "Zone",
        "ceiling": "may go as far as",
        "skipped": "Left out",
        "shadow": "After the reply, a copy goes to",
        "sticky": "The conversation was moved here by an earlier turn",
        "transform": "Beyond {zone} it goes pseudonymised, if a second scan finds nothing personal left; else it stays",
        "canary": "canary",
        "cost": "Price",
        "unknown": "unknown",
        "prompt": "the prompt",
        "completion": "per 1,000 tokens of answer",
        "second": "per second of the machine",
        "nominal": "No models are configured: shown for a small one on the premises and a large one in the world.",
        "policy": "Policy",
    },
    "es": {
        "signals": "Señales",
        "found": "Encontrado",
        "rules": "Reglas, por orden",
        "none_tried": "no se probó ninguna regla: la petición nombra su modelo o su ruta",
        "default": "ninguna regla se cumple: la ruta por defecto",
        "route": "Ruta",
        "rule": "regla",
        "ladder": "Escalera",
        "nobody": "ningún modelo puede responder",
        "turns_down": "Rechaza",
        "zone": "Zona",
        "ceiling": "puede llegar hasta",
        "skipped": "Descartado",
        "shadow": "Tras la respuesta, una copia va a",
        "sticky": "Un turno anterior trajo aquí la conversación",
        "transform": "Fuera de {zone} va seudonimizada, si un segundo análisis no halla nada personal; si no, se queda",
        "canary": "canario",
        "cost": "Precio",
        "unknown": "desconocido",
        "prompt": "la pregunta",
        "completion": "por 1.000 tokens de respuesta",
        "second": "por segundo de máquina",
        "nominal": "No hay modelos configurados: se muestra con uno pequeño en casa y uno grande fuera.",
        "policy": "Política",
    },
}


def show(told: Mapping[str, Any], console: Console, language: Language) -> None:
    """An explanation for the terminal."""
    said, decision = _SAID[language], told["decision"]
    signals = Table(title=said["signals"], show_header=False, title_justify="left")
    for name, value in told["signals"].items():
        signals.add_row(name, Text(_shown(value)))
    console.print(signals)
    if told["why"]:
        console.print(Text(told["why"]["sentence"]))
    for ground in told["kinds"]:
        console.print(Text(f"{said['found']}: {ground['kind']} ({ground['what']}): {ground['article']}"))
    console.print(Text(f"{said['rules']}:", style="bold"))
    for item in told["tried"]:
        console.print(Text(f"  {'✓' if item['matched'] else '·'} {item['rule']}: {item['why']}"))
    if not told["tried"] or not told["tried"][-1]["matched"]:
        pinned = told["requested"] != AUTO and decision["rule"] != "default" and not told["tried"]
        console.print(Text(f"  ✓ {said['none_tried'] if pinned else said['default']}"))
    rule = f"{said['rule']} {decision['rule']}" + (f", {said['canary']}" if decision["canary"] else "")
    console.print(Text(f"{said['route']}: {decision['route']} ({rule})", style="bold"))
    console.print(Text(f"{said['ladder']}: {' > '.join(decision['ladder']) or said['nobody']}"))
    console.print(Text(f"{said['zone']}: {decision['zone']} ({said['ceiling']} {decision['ceiling']})"))
    if decision["transform"]:
        console.print(Text(said["transform"].format(zone=decision["ceiling"])))
    for check in told["checks"]:
        console.print(Text(f"{said['turns_down']}: {check}"))
    if decision["sticky"]:
        console.print(Text(said["sticky"]))
    if decision["shadow"]:
        console.print(Text(f"{said['shadow']}: {decision['shadow']}"))
    for skip in decision["skipped"]:
        console.print(Text(f"{said['skipped']}: {skip['model']}: {skip['reason']}"))
    for estimate in told["cost"]:
        console.print(Text(f"{said['cost']}: {estimate['model']}: {_shown_price(estimate, said)}"))
    console.print(Text(f"{said['policy']}: {decision['policy']}@{decision['policy_revision']}", style="dim"))
    if told["nominal"]:
        console.print(Text(said["nominal"], style="dim"))


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_shown(item)}" for name, item in value.items() if item)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.3f}"
    return "-" if value is None else str(value)


def _shown_price(estimate: Mapping[str, Any], said: Mapping[str, str]) -> str:
    if "nano_usd_per_second" in estimate:
        return f"{_usd(estimate['nano_usd_per_second'])} {said['second']}"
    if "prompt_nano_usd" not in estimate:
        return said["unknown"]
    prompt, completion = estimate["prompt_nano_usd"], estimate["completion_nano_usd_per_1000_tokens"]
    return f"{_usd(prompt)} {said['prompt']}, {_usd(completion)} {said['completion']} ({estimate['source']})"


def _usd(nano_usd: int) -> str:
    return f"{Decimal(nano_usd) / 1_000_000_000:f} USD"

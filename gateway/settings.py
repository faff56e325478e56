"""`cauce.yaml` and the environment, read once at start into one frozen value.

Nothing else reads the environment. Secrets stand in the file only by reference (`${NAME}`); a literal one is refused.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from gateway.catalogue import limits
from gateway.errors import ConfigError
from gateway.types import EnergyFacts, Model, Replica, Rest, Retries, Timeouts, Zone

DEFAULT_PORT = 8400
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Where a key is the operator's own; any other is for its provider's host and no other.
_AT_HOME = frozenset({"openai-compatible", "ollama", "lmstudio", "llamacpp", "vllm", "tgi"})
_SECRETS = frozenset({"api_key", "webhook", "session_secret", "otlp_authorization"})


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeoutSettings(_Frozen):
    """Limits of one upstream call, in seconds."""

    connect_s: float = Field(2.0, gt=0, description="until the connection stands")
    first_token_s: float = Field(20.0, gt=0, description="until the first byte of a stream; also a place in its queue")
    idle_s: float = Field(15.0, gt=0, description="between two pieces of an answer")
    total_s: float = Field(
        300.0,
        gt=0,
        description="until the answer is complete; a whole one has no byte before it is, so only this ends it",
    )


class RetrySettings(_Frozen):
    """Calls that are made again at the same model, before the first byte of an answer has reached the client."""

    most: int = Field(1, ge=0, le=10, description="how often; 0: never, the next rung is asked at once")
    first_wait_s: float = Field(0.1, gt=0, description="the longest first wait, drawn at random; it doubles each time")
    longest_wait_s: float = Field(2.0, gt=0, description="a longer Retry-After is not waited for")


class BreakerSettings(_Frozen):
    """When a model (or one of its replicas) is left alone for a moment."""

    failures: int = Field(5, ge=0, description="in a row, until it is; 0: never")
    rest_s: float = Field(5.0, gt=0, description="until one call may try it again")


class ReplicaSettings(_Frozen):
    """One more endpoint of the same model, beside its `base_url`."""

    base_url: str = Field(description="endpoint, up to and including /v1")
    api_key: str = Field("", repr=False, description="a reference: ${NAME}; none: the model's own, if that is for it")
    weight: int = Field(1, ge=1, description="its share of the calls, against the model's own weight")
    max_in_flight: int | None = Field(None, ge=1, description="calls at once; none: as many as the model's own")


class EnergySettings(_Frozen):
    """What is known of a model that its energy is estimated by."""

    like: str = Field("", description="the entry of ecologits' catalogue that it is: openai/gpt-4.1")
    active_b: float | None = Field(None, gt=0, description="billions of parameters that work on a token")
    total_b: float | None = Field(None, gt=0, description="billions of parameters; none: those that work")
    pue: float | None = Field(None, ge=1, description="power usage effectiveness of its data centre")
    country: str = Field("", pattern=r"^([A-Z]{3})?$", description="whose grid feeds it (ISO 3166-1 alpha-3)")


class ModelSettings(_Frozen):
    """One entry of `models:`."""

    provider: str = Field(
        description="openai-compatible, openai, anthropic, gemini, bedrock, watsonx, embedded, fake, ..."
    )
    model: str = Field(description="the name that the provider knows it by")
    zone: Literal["premises", "eu", "world"] = Field(description="where its text is processed")
    kind: Literal["slm", "llm", "embedding"] = Field(description="what policies call it")
    base_url: str = Field("", description="endpoint, up to and including /v1")
    api_key: str = Field("", repr=False, description="a reference: ${NAME}")
    timeouts: TimeoutSettings = Field(TimeoutSettings(), description="limits of one call to it")
    retries: RetrySettings = Field(RetrySettings(), description="calls that are made again")
    breaker: BreakerSettings = Field(BreakerSettings(), description="when it is left alone for a moment")
    hedge: Literal["none", "replica", "rung"] = Field(
        "none",
        description="a second request when the first is slower to begin than 95 in 100: to a replica, or the next rung",
    )
    replicas: tuple[ReplicaSettings, ...] = Field(
        (), description="more endpoints of this model; a conversation stays at one while it has room"
    )
    max_in_flight: int = Field(256, ge=1, description="calls at once; more wait in a short queue, then 503")
    weight: int = Field(1, ge=1, description="the share of its own base_url when it has replicas")
    context_tokens: int | None = Field(
        None, ge=1, description="longest prompt and answer, a longer prompt skips this model; none: the catalogue's"
    )
    modalities: tuple[Literal["text", "image", "audio", "file"], ...] | None = Field(
        None, description="what it can read; none: the catalogue's, else text"
    )
    tools: bool | None = Field(None, description="whether it takes tools; none: the catalogue's, else true")
    notice: str = Field("", description="sent to the caller in x-cauce-notice")
    options: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = Field(
        default_factory=dict, description="the provider's own settings: region, project_id, ..."
    )
    energy: EnergySettings = Field(EnergySettings(), description="what its energy and CO2e are estimated by")


class LimitSettings(_Frozen):
    """What a request may be."""

    max_body_mb: float = Field(20.0, gt=0, description="larger bodies are refused before they are read")
    max_messages: int = Field(10_000, ge=1, description="turns in one conversation")
    header_timeout_s: float = Field(10.0, gt=0, description="until a request's headers are complete")
    body_timeout_s: float = Field(30.0, gt=0, description="until a request's body is complete")
    unread_timeout_s: float = Field(60.0, gt=0, description="until a client that does not read its answer is left")
    shutdown_s: float = Field(30.0, gt=0, description="until what is still being answered at a stop is broken off")
    max_in_flight: int = Field(4096, ge=1, description="requests at once in one process; more get 503")
    max_scan_chars: int = Field(1_000_000, ge=1, description="longer text counts as unreadable for the privacy scan")


class CacheSettings(_Frozen):
    """The exact cache, in memory."""

    enabled: bool = Field(True, description="whether answers are kept at all")
    max_mb: float = Field(64.0, gt=0, description="memory of one process; the least used answers go first")
    ttl_s: float = Field(600.0, gt=0, description="how long an answer may be sent again, in seconds")


class BudgetSettings(_Frozen):
    """Budgets of keys, apps, teams and organisations (`cauce keys limit`)."""

    default_completion_tokens: int = Field(
        4096, ge=1, description="what an answer is supposed to have at most, where the request states no max_tokens"
    )
    reservation_ttl_s: float = Field(
        900.0, gt=0, description="a reservation of a process that died is released after this time"
    )
    webhook: str = Field(
        "", repr=False, description="a reference, ${NAME}: where alerts at 50, 80 and 100 % are posted; none: nowhere"
    )


class SpoolSettings(_Frozen):
    """Where entries wait on disk while the ledger's database is away."""

    folder: str = Field("", description="none: beside the SQLite file (cauce.db.spool), or cauce.spool here")
    max_mb: float = Field(256.0, gt=0, description="of one process; more waits in memory")


class MachineSettings(_Frozen):
    """What a second of local inference costs, in money and in energy."""

    usd_per_hour: float = Field(0.05, ge=0, description="amortisation of the machine that local models run on")
    watts: float = Field(65.0, ge=0, description="power while it answers, where the machine does not measure it")
    usd_per_kwh: float = Field(0.20, ge=0, description="price of electricity")
    idle_watts: float = Field(10.0, ge=0, description="power while it waits: what an answer does not add")
    measure: bool = Field(True, description="take measured watts where the machine gives them (RAPL), for energy")
    country: str = Field("", pattern=r"^([A-Z]{3})?$", description="whose grid feeds it (ISO 3166-1 alpha-3): ESP")


class ConsoleSettings(_Frozen):
    """Signing in to `/console`."""

    session_secret: str = Field(
        "", repr=False, description="a reference: ${NAME}; signs sessions. None: one made at each start"
    )
    session_hours: float = Field(12.0, gt=0, description="until one has to sign in again")


class TelemetrySettings(_Frozen):
    """What is measured beside `/metrics`."""

    audit_check_hours: float = Field(
        24.0, ge=0, description="between two checks of the audit's chain (`cauce_audit_problems`); 0: never"
    )
    otlp_endpoint: str = Field(
        "",
        pattern=r"^(https?://[^@/?#\s]+/[^@?#\s]*)?$",
        description="where OpenTelemetry traces go (extra `otel`), the whole address: http://localhost:4318/v1/traces; "
        "labels and counts, never a text. None: nowhere, whatever OTEL_* says",
    )
    otlp_authorization: str = Field(
        "", repr=False, description="a reference, ${NAME}: the Authorization header that the receiver wants"
    )
    otlp_share: float = Field(
        1.0, ge=0, le=1, description="of requests that came without a trace; callers decide for theirs"
    )


class Settings(_Frozen):
    """All of `cauce.yaml`."""

    host: str = Field("127.0.0.1", description="address to listen on; anything but loopback needs a key first")
    port: int = Field(DEFAULT_PORT, ge=0, le=65535, description="port to listen on")
    workers: int = Field(
        1, ge=1, le=64, description="processes that share the port; each has its own memory, and its own embedded model"
    )
    models: dict[str, ModelSettings] = Field(
        default_factory=dict, description="what requests can go to, by name; none: what is found"
    )
    discover: bool = Field(
        True, description="look for local servers on their usual ports, and cloud keys in the environment"
    )
    policy: str = Field("", description="policy file; none: policies/default.yaml, else the shipped default")
    calibration: str = Field(
        "", description="what `cauce router calibrate` wrote: the router's scores as those of the small model here"
    )
    prices: str | None = Field(None, description="price file over the shipped seed")
    grid: str | None = Field(None, description="file of dated grid mixes, g CO2e a kWh by country, over ecologits' own")
    ledger: str = Field("sqlite:///cauce.db", description="sqlite:///FILE or postgresql://...")
    shared: str | None = Field(
        None,
        description="redis://... when gateways share budgets, rates and opened circuits; "
        "none: budgets and rates in the ledger's database, circuits each its own",
    )
    baseline: str | None = Field(None, description="the model that savings are measured against; none: the first llm")
    baseline_tokens_low: float = Field(
        0.5, gt=0, le=1, description="the least that the baseline would have written, times the answer's tokens"
    )
    baseline_tokens_high: float = Field(2.0, ge=1, description="the most that it would have written, likewise")
    time_zone: str = Field("Europe/Madrid", description="of the business: days, months and the signal `hour`")
    language: Literal["es", "en"] = Field("en", description="of the console and of explanations")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")
    limits: LimitSettings = Field(LimitSettings(), description="what a request may be")
    cache: CacheSettings = Field(CacheSettings(), description="the exact cache")
    budgets: BudgetSettings = Field(BudgetSettings(), description="how budgets are kept")
    spool: SpoolSettings = Field(SpoolSettings(), description="where entries wait while the database is away")
    machine: MachineSettings = Field(MachineSettings(), description="what a second of local inference costs")
    console: ConsoleSettings = Field(ConsoleSettings(), description="signing in to `/console`")
    telemetry: TelemetrySettings = Field(TelemetrySettings(), description="what is measured beside `/metrics`")
    source: str = Field("", description="the file this was read from; set by the loader")

    @field_validator("models")
    @classmethod
    def _names(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if name in {"auto", "slm", "llm", "embedding"}:
                raise ValueError(f"a model cannot be called {name!r}: policies use that word")
        return models

    @field_validator("models")
    @classmethod
    def _replicas_have_addresses(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name, model in models.items():
            if model.replicas and model.provider in {"embedded", "static", "fake"}:
                raise ValueError(f"{name}: provider {model.provider} has no address, so it has no replicas")
            if model.hedge == "replica" and not model.replicas:
                raise ValueError(f"{name}: hedge: replica needs replicas; with one endpoint, write hedge: rung")
            for replica in model.replicas if model.api_key and model.provider not in _AT_HOME else ():
                host = urlsplit(replica.base_url).hostname
                if not replica.api_key and host != urlsplit(model.base_url).hostname:
                    raise ValueError(
                        f"{name}: the replica at {host} is not sent the key of {model.provider}: give it an api_key"
                    )
        return models

    @model_validator(mode="after")
    def _baseline_exists(self) -> Settings:
        if self.baseline and self.models and self.baseline not in self.models:
            raise ValueError(f"baseline: {self.baseline!r} is not one of the models: {', '.join(self.models)}")
        return self

    def catalogue(self) -> tuple[Model, ...]:
        """The configured models as the pipeline knows them, in the file's order."""
        return tuple(as_model(name, entry) for name, entry in self.models.items())


def as_model(name: str, entry: ModelSettings) -> Model:
    """One configured model in the vocabulary of `types.py`; what it does not say of its limits, the catalogue says."""
    known = limits(entry.model)
    return Model(
        id=name,
        provider=entry.provider,
        model=entry.model,
        zone=Zone[entry.zone.upper()],
        kind=entry.kind,
        base_url=entry.base_url.rstrip("/"),
        api_key=entry.api_key,
        timeouts=Timeouts(**entry.timeouts.model_dump()),
        retries=Retries(**entry.retries.model_dump()),
        breaker=Rest(**entry.breaker.model_dump()),
        hedge=entry.hedge,
        replicas=tuple(
            Replica(
                each.base_url.rstrip("/"),
                each.api_key or entry.api_key,
                each.weight,
                each.max_in_flight or entry.max_in_flight,
            )
            for each in entry.replicas
        ),
        max_in_flight=entry.max_in_flight,
        weight=entry.weight,
        context_tokens=entry.context_tokens or known.context_tokens,
        modalities=known.modalities if entry.modalities is None else frozenset(entry.modalities) | {"text"},
        tools=known.tools if entry.tools is None else entry.tools,
        notice=entry.notice,
        options=entry.options,
        energy=EnergyFacts(**entry.energy.model_dump()),
    )


def load_settings(path: Path | None = None, *, environ: Mapping[str, str] | None = None) -> Settings:
    """Read `path`, or `cauce.yaml` in the working folder when it exists, or the defaults.

    Raises `ConfigError` with file, line and column for anything that is not as it should be.
    """
    env = os.environ if environ is None else environ
    file = path or Path("cauce.yaml")
    if path is None and not file.exists():
        return Settings()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}. Name a readable file with --config", where=str(file)) from error
    document = _parse(text, file)
    resolved = _resolve(document, env, file, path=())
    try:
        return Settings(**{**resolved, "source": str(file)})
    except ValidationError as error:
        raise _as_config_error(error, document, file) from error


def _parse(text: str, file: Path) -> Any:
    yaml = YAML(typ="rt")
    try:
        document = yaml.load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file}:{mark.line + 1}:{mark.column + 1}" if mark else str(file)
        raise ConfigError(f"is not valid YAML: {error.problem}", where=where) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError("must be a mapping of settings, e.g. `models:`", where=f"{file}:1:1")
    return document


def _resolve(value: Any, env: Mapping[str, str], file: Path, *, path: tuple[str, ...]) -> Any:
    """Plain Python values with `${NAME}` replaced; a secret written out is refused."""
    if isinstance(value, dict):
        return {str(k): _resolve(v, env, file, path=(*path, str(k))) for k, v in value.items()}
    if isinstance(value, list):
        return [_resolve(v, env, file, path=path) for v in value]
    if not isinstance(value, str):
        return value
    dotted = ".".join(path)
    if path and path[-1] in _SECRETS and value and not _REFERENCE.fullmatch(value):
        raise ConfigError(
            f"{dotted} holds a literal secret: write ${{NAME}} and set NAME in the environment", where=str(file)
        )

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name not in env:
            raise ConfigError(f"{dotted} refers to ${{{name}}}, which is not set in the environment", where=str(file))
        return env[name]

    return _REFERENCE.sub(replace, value)


def _as_config_error(error: ValidationError, document: Any, file: Path) -> ConfigError:
    """The first problem, with its place in the file."""
    first = error.errors(include_url=False, include_input=False)[0]
    line, column, node = 1, 1, document
    for key in first["loc"]:
        marks: Any = getattr(node, "lc", None)
        try:
            line, column = (n + 1 for n in (marks.key(key) if isinstance(node, dict) else marks.item(key)))
            node = node[key]
        except (AttributeError, KeyError, TypeError, IndexError):
            break
    dotted = ".".join(str(part) for part in first["loc"]) or "settings"
    if first["type"] == "extra_forbidden":
        near = (
            difflib.get_close_matches(str(first["loc"][-1]), Settings.model_fields, 1) if len(first["loc"]) == 1 else []
        )
        hint = f"did you mean {near[0]!r}?" if near else "REFERENCE.md lists the settings"
        return ConfigError(f"{dotted}: there is no such setting; {hint}", where=f"{file}:{line}:{column}")
    return ConfigError(f"{dotted}: {first['msg']}", where=f"{file}:{line}:{column}")

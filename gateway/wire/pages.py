"""Everything but the request path: models, route, health, metrics. FastAPI serves these; they are not in a hurry."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.telemetry import TelemetryConfig
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Route

from gateway import __version__
from gateway.errors import CauceError, InternalError, UnknownModel, UnknownPath, UnknownRequest, WrongMethod
from gateway.pipeline import Pipeline
from gateway.settings import LimitSettings
from gateway.telemetry.metrics import Metrics
from gateway.types import Exchange, Model, Zone
from gateway.wire.body import ClientGone, content_length, read_body
from gateway.wire.caller import Keys, cost_tags, find_caller, raised_class, refuse_model
from gateway.wire.chat import read_chat
from gateway.wire.counting import counting
from gateway.wire.endpoint import new_request_id
from gateway.wire.feedback import read_feedback
from gateway.wire.language import Language, named_language
from gateway.wire.openapi import document

_LOCAL_ONLY: Final[dict[Language, str]] = {
    "en": "no model off the premises is configured: every ladder is local",
    "es": "no hay ningún modelo configurado fuera de las instalaciones: todas las escaleras son locales",
}


class Status(Protocol):
    """What the composition root knows of the gateway's state."""

    def ready(self) -> tuple[bool, dict[str, object]]:
        """Whether requests can be answered, and the state of each part."""
        ...

    def refresh_gauges(self) -> None:
        """Bring the gauges up to date before they are read."""
        ...


# FastAPI 0.165 sends traces, and what it could not validate word by word, where variables of the environment say.
_NO_TELEMETRY: Final[TelemetryConfig] = {
    "tracing": False,
    "metrics": False,
    "logs": False,
    "operation_spans": False,
    "auto_configure": False,
}


def build_pages(  # noqa: PLR0913 - a function a page; the composition root hands in each part by name
    *,
    pipeline: Pipeline,
    keys: Keys,
    limits: LimitSettings,
    models: Mapping[str, Model],
    metrics: Metrics,
    status: Status,
    explain: Callable[..., dict[str, object]],
    keep_feedback: Callable[[str, str, float], Awaitable[bool]],
    language: Language,
) -> FastAPI:
    """The application behind every path but the request path's own. `language`: for readers who name none of ours."""
    routes: list[BaseRoute] = [
        Route("/openapi.json", openapi),
        Route("/v1/messages/count_tokens", counting(keys, limits), methods=["POST"]),
    ]
    app = FastAPI(
        title="Cauce",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        routes=routes,
        telemetry=_NO_TELEMETRY,
    )

    @app.exception_handler(CauceError)
    async def _known(_request: Request, error: CauceError) -> Response:
        return _refusal(error)

    @app.exception_handler(ClientGone)
    async def _gone(_request: Request, _error: ClientGone) -> Response:
        return Response(status_code=499)  # nobody reads it

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        path = request.url.path
        known: CauceError = (
            WrongMethod(f"{request.method} is not for {path}")
            if error.status_code == 405
            else UnknownPath(f"there is nothing at {path}: the API is under /v1, e.g. /v1/chat/completions")
        )
        return _refusal(known, error.headers)

    @app.exception_handler(Exception)
    async def _fault(_request: Request, _error: Exception) -> Response:
        return _refusal(InternalError("the gateway failed on this request; its log says where"))

    created = int(time.time())

    def listed(model: Model) -> dict[str, object]:
        return {
            "id": model.id,
            "object": "model",
            "created": created,
            "owned_by": model.provider,
            "cauce": {"zone": model.zone.label, "kind": model.kind, "model": model.model},
        }

    async def whole_body(request: Request, headers: Mapping[bytes, bytes]) -> bytes:
        return await read_body(
            request.receive,
            content_length=content_length(headers.get(b"content-length")),
            max_bytes=int(limits.max_body_mb * 1_000_000),
            timeout_s=limits.body_timeout_s,
        )

    @app.get("/v1/models")
    async def list_models(request: Request) -> Response:
        """The configured models, and `auto`."""
        find_caller(dict(request.scope["headers"]), keys)
        auto: dict[str, object] = {"id": "auto", "object": "model", "created": created, "owned_by": "cauce"}
        return _json({"object": "list", "data": [auto, *map(listed, models.values())]})

    @app.get("/v1/models/{name:path}")
    async def one_model(name: str, request: Request) -> Response:
        """One configured model, or `auto`."""
        find_caller(dict(request.scope["headers"]), keys)
        if name == "auto":
            return _json({"id": "auto", "object": "model", "created": created, "owned_by": "cauce"})
        if name not in models:
            raise UnknownModel(f"there is no model {name[:80]!r}: {', '.join(models)}", param="model")
        return _json(listed(models[name]))

    @app.post("/v1/route")
    async def route(request: Request) -> Response:
        """The decision for a chat request, without a call."""
        headers = dict(request.scope["headers"])
        caller = find_caller(headers, keys)
        raw = await whole_body(request, headers)
        exchange = Exchange(new_request_id(), "route", time.time_ns(), caller)
        inbound = read_chat(
            raw,
            request_id=exchange.request_id,
            received_ns=exchange.received_ns,
            caller=caller,
            data=raised_class(headers, caller),
            tags=cost_tags(headers, caller),
            cacheable=False,
            max_messages=limits.max_messages,
        )
        refuse_model(inbound.model, caller)
        signals, decision = pipeline.choose(inbound, exchange)
        spoken = named_language(headers.get(b"accept-language", b"").decode("latin-1"), language)
        local = all(model.zone is Zone.PREMISES for model in models.values())
        notes = [_LOCAL_ONLY[spoken]] if local else []
        return _json({**explain(signals, decision, requested=inbound.model, language=spoken), "notes": notes})

    @app.post("/v1/feedback")
    async def feedback(request: Request) -> Response:
        """A caller's score of an answer that it got: what `cauce router calibrate --outcomes ledger` learns from."""
        headers = dict(request.scope["headers"])
        caller = find_caller(headers, keys)
        said = read_feedback(await whole_body(request, headers))
        if not await keep_feedback(said.request_id, caller.id, said.score):
            raise UnknownRequest(
                "this key made no request of that id: send the x-cauce-request-id of one of its answers",
                param="request_id",
            )
        kept: dict[str, object] = {"request_id": said.request_id, "score": said.score}
        return _json({**kept, "comment": "not kept: the ledger holds no text"} if said.commented else kept)

    @app.get("/healthz")
    async def healthz() -> Response:
        """The process answers."""
        return _json({"status": "ok", "version": __version__})

    @app.get("/readyz")
    async def readyz() -> Response:
        """Requests can be answered: policy, ledger and at least one model are there."""
        ready, parts = status.ready()
        return _json({"status": "ready" if ready else "not ready", **parts}, 200 if ready else 503)

    @app.get("/metrics")
    async def read_metrics() -> Response:
        """Prometheus text format."""
        status.refresh_gauges()
        return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return app


async def openapi(_request: Request) -> Response:
    """The API written down, the request path's too."""
    return _json(document())


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, headers, media_type="application/json")


def _refusal(error: CauceError, headers: Mapping[str, str] | None = None) -> Response:
    request_id = new_request_id()
    ids = {"x-request-id": request_id, "x-cauce-request-id": request_id}
    return _json(error.as_object(request_id), error.status, {**(headers or {}), **ids})

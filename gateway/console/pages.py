"""The console's pages, rendered here; useful without JavaScript. No text of a request is ever on one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from gateway.policy.rules import Policy
from gateway.types import Model

_PAGES: Final = Environment(
    loader=PackageLoader("gateway.console"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_WORDS: Final = {
    "en": {
        "lead": "Each query goes to the smallest model that will answer it well; personal data only where it may go.",
        "try_it": "Try it",
        "models": "Models",
        "name": "Name",
        "kind": "Kind",
        "zone": "Zone",
        "provider": "Provider",
        "model": "Model",
        "policy": "Policy",
        "guarantee": "{data} data and above stays inside {zone}",
        "unless": "unless pseudonymised",
        "refused": "A changed policy file was refused; this one stays in force",
        "more": "More",
    },
    "es": {
        "lead": "Cada consulta va al modelo más pequeño que la responde bien; los datos personales, solo adonde deben.",
        "try_it": "Pruébalo",
        "models": "Modelos",
        "name": "Nombre",
        "kind": "Tipo",
        "zone": "Zona",
        "provider": "Proveedor",
        "model": "Modelo",
        "policy": "Política",
        "guarantee": "los datos de clase {data} y superiores no salen de {zone}",
        "unless": "salvo seudonimizados",
        "refused": "Se rechazó un fichero de política cambiado; sigue en vigor esta",
        "more": "Más",
    },
}


def home(*, models: Iterable[Model], policy: Policy, refused: str, curl: str, language: str) -> str:
    """The overview: what is served, under which policy, and how to call it; why a changed policy was `refused`."""
    return _PAGES.get_template("home.html").render(
        models=list(models),
        policy=policy.name,
        revision=policy.revision,
        guarantees=policy.guarantees,
        refused=refused,
        curl=curl,
        language=language,
        t=_WORDS[language],
    )

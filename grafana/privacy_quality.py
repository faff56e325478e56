"""Privacy and quality: what class of data went where, what was refused, and whether answers and questions change."""

from __future__ import annotations

from typing import Final

from grafana.panels import PER, Board, Choice, Panel, Query, Row, Said, of, rate, same, total

_PERSONAL: Final = 'data_class=~"personal|special|secret"'


def distance(metric: str) -> Query:
    """How far two distributions lie apart, 0 to 1: Kolmogorov and Smirnov's, over a histogram's buckets."""

    def share(offset: str) -> str:
        each, all_ = (f"rate({metric}_{end}[$window]{offset})" for end in ("bucket", "count"))
        return f"sum by (le) ({each}) / scalar(sum({all_}))"

    return Query(f"max(abs({share('')} - {share(' offset $baseline')}))", same(metric.removeprefix("cauce_")))


def _tenths(metric: str) -> tuple[Query, ...]:
    return tuple(
        Query(
            f"histogram_quantile({q}, sum by (le) (rate({metric}_bucket[$window])))",
            Said(f"{int(q * 100)} % lie below", f"el {int(q * 100)} % queda por debajo"),
        )
        for q in (0.1, 0.5, 0.9)
    )


PRIVACY: Final = Row(
    Said("Privacy", "Privacidad"),
    (
        Panel(
            Said("Data class and zone", "Clase de datos y zona"),
            Said(
                "Where requests of each class were answered; without a zone where nobody answered.",
                "Dónde se respondió cada clase; sin zona si nadie respondió.",
            ),
            "reqps",
            (rate("cauce_data_requests_total", "data_class", "zone"),),
        ),
        Panel(
            Said("Share of personal data and above", "Proporción de datos personales o más"),
            Said("Personal, special and secret, of all requests.", "Personales, especiales y secretos, del total."),
            "percentunit",
            (
                Query(
                    f"sum(rate({of('cauce_data_requests_total', _PERSONAL)}"
                    f"{PER})) / sum(rate({of('cauce_data_requests_total')}{PER}))",
                    Said("personal and above", "personales o más"),
                ),
            ),
        ),
        Panel(
            Said("Refused at the gate", "Rechazos de la puerta"),
            Said(
                "Text that a rule would have sent too far and the gate did not let out. It should be 0.",
                "Texto que una regla habría enviado demasiado lejos y la puerta no dejó salir. Debe ser 0.",
            ),
            "reqps",
            (rate("cauce_gate_refusals_total", "data_class", "zone"),),
            (0.001,),
        ),
        Panel(
            Said("No model was allowed to answer", "Ningún modelo podía responder"),
            Said(
                "Refused with no_allowed_model: add a model in the zone where such data must stay.",
                "Rechazadas con no_allowed_model: añada un modelo en la zona donde deben quedarse.",
            ),
            "reqps",
            (
                Query(
                    f'sum(rate(cauce_errors_total{{code="no_allowed_model"}}{PER})) or vector(0)',
                    Said("refused", "rechazadas"),
                ),
            ),
            (0.001,),
        ),
        Panel(
            Said("Detector failures", "Fallos del detector"),
            Said(
                "Scans that failed: such requests count as the policy's `failure` class and stay.",
                "Análisis fallidos: esas peticiones toman la clase `failure` de la política y se quedan.",
            ),
            "reqps",
            (total("cauce_privacy_scan_failures_total", Said("scans", "análisis")),),
            (0.001,),
        ),
        Panel(
            Said("Pseudonymised", "Seudonimizadas"),
            Said(
                "On routes that pseudonymise: done, or not possible (none), so that the text stayed.",
                "En rutas que seudonimizan: hecho, o imposible (none), y el texto se quedó.",
            ),
            "reqps",
            (rate("cauce_transformed_requests_total", "transform"),),
        ),
        Panel(
            Said("Audit: problems found", "Auditoría: problemas hallados"),
            Said(
                "By the last check of the chain; -1 before the first one. `cauce audit verify` says where.",
                "En la última comprobación de la cadena; -1 antes de la primera. `cauce audit verify` dice dónde.",
            ),
            "short",
            (Query("max(cauce_audit_problems)", Said("problems", "problemas")),),
            (1,),
        ),
    ),
)
QUALITY: Final = Row(
    Said("Quality", "Calidad"),
    (
        Panel(
            Said("Escalations, share of the requests", "Escaladas, proporción de las peticiones"),
            Said("More than one model was asked to answer.", "Se preguntó a más de un modelo."),
            "percentunit",
            (
                Query(
                    f"sum by (route) (rate({of('cauce_escalations_total')}{PER})) / "
                    f"sum by (route) (rate({of('cauce_requests_total')}{PER}))",
                    same("{{route}}"),
                ),
            ),
        ),
        Panel(
            Said("Verdicts by verifier", "Veredictos por verificador"),
            Said("Passed or turned down; judges also failed, over_budget.", "Aceptada o descartada; jueces, más."),
            "reqps",
            (rate("cauce_verdicts_total", "check", "verdict"),),
        ),
        Panel(
            Said("Answers turned down, by model", "Respuestas descartadas, por modelo"),
            Said("And by the check that did so.", "Y por el verificador que lo hizo."),
            "reqps",
            (rate("cauce_rejected_answers_total", "model", "check"),),
        ),
    ),
)
DIFFICULTY: Final = Row(
    Said("Difficulty and its drift", "Dificultad y su deriva"),
    (
        Panel(
            Said("Success of the small model, as predicted", "Éxito previsto del modelo pequeño"),
            Said(
                "The distribution of slm_success over the chosen window.",
                "La distribución de slm_success en la ventana elegida.",
            ),
            "percentunit",
            _tenths("cauce_slm_success"),
        ),
        Panel(
            Said("Gain of the large model, as predicted", "Ganancia prevista del modelo grande"),
            Said("The distribution of gain over the window.", "La distribución de gain en la ventana."),
            "short",
            _tenths("cauce_gain"),
        ),
        Panel(
            Said("Drift against the baseline window", "Deriva frente a la ventana de referencia"),
            Said(
                "The largest distance between now's distribution and the one before (Kolmogorov-Smirnov, 0 to 1). "
                "From 0.2 on, calibrate again: `cauce router calibrate`.",
                "La mayor distancia entre la distribución actual y la anterior (Kolmogórov-Smirnov, 0 a 1). "
                "Desde 0,2, calibre de nuevo: `cauce router calibrate`.",
            ),
            "percentunit",
            (distance("cauce_slm_success"), distance("cauce_gain")),
            (0.1, 0.2),
        ),
    ),
)
BOARD: Final = Board(
    "privacy-quality",
    Said("Cauce: privacy and quality", "Cauce: privacidad y calidad"),
    ("route", "model"),
    (PRIVACY, QUALITY, DIFFICULTY),
    (
        Choice("window", Said("window", "ventana"), "1d,1h,6h,7d"),
        Choice("baseline", Said("compared with, before", "comparado con, antes"), "7d,1d,14d,30d"),
    ),
    since="now-24h",
)

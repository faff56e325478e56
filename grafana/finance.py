"""Finance: what is spent and saved, what budgets say, and where the month will end. The ledger is the truth."""

from __future__ import annotations

from typing import Final

from grafana.panels import PER, Board, Panel, Query, Row, Said, of, rate, same, total

# Several gateways on one ledger say the same.
_MONTH_COST: Final = f"max by (team) ({of('cauce_month_cost_usd')})"
_MONTH_BASELINE: Final = f"max by (team) ({of('cauce_month_baseline_usd')})"
_ELAPSED: Final = "scalar(clamp_min(max(cauce_month_elapsed_ratio), 0.01))"
_LEFT_S: Final = "(1 - max(cauce_month_elapsed_ratio)) * scalar(days_in_month()) * 86400"

MONTH: Final = Row(
    Said("The month", "El mes"),
    (
        Panel(
            Said("Spent this month, by team", "Gastado este mes, por equipo"),
            Said(
                "From the ledger, in the business's time zone; adjustments and shadows come with `cauce report`.",
                "Del libro mayor, en la zona horaria del negocio; ajustes y copias, en `cauce report`.",
            ),
            "currencyUSD",
            (Query(_MONTH_COST, same("{{team}}")),),
        ),
        Panel(
            Said("Forecast to the month's end", "Previsión a fin de mes"),
            Said(
                "What is spent, divided by the share of the month that has passed; and what is spent, "
                "going on as in the last day.",
                "Lo gastado entre la parte del mes transcurrida; y lo gastado, siguiendo como en el último día.",
            ),
            "currencyUSD",
            (
                Query(f"sum({_MONTH_COST}) / {_ELAPSED}", Said("at the month's pace", "al ritmo del mes")),
                Query(
                    f"sum({_MONTH_COST}) + sum(rate({of('cauce_cost_usd_total')}[1d])) * {_LEFT_S}",
                    Said("at the last day's pace", "al ritmo del último día"),
                ),
            ),
        ),
        Panel(
            Said("Saved this month against the baseline", "Ahorrado este mes frente a la referencia"),
            Said(
                "The baseline's cost less what was spent. Ranges and the router's own cost: `cauce report`.",
                "El coste de la referencia menos lo gastado. Rangos y coste del enrutador: `cauce report`.",
            ),
            "currencyUSD",
            (Query(f"{_MONTH_BASELINE} - {_MONTH_COST}", same("{{team}}")),),
        ),
        Panel(
            Said("Month passed", "Mes transcurrido"),
            Said("In the business's time zone.", "En la zona horaria del negocio."),
            "percentunit",
            (Query("max(cauce_month_elapsed_ratio)", Said("passed", "transcurrido")),),
        ),
    ),
)
SPEND: Final = Row(
    Said("Spend", "Gasto"),
    (
        Panel(
            Said("Spend, USD an hour", "Gasto, USD por hora"),
            Said("By route and answering model; shadows are told apart.", "Por ruta y modelo; las copias, aparte."),
            "currencyUSD",
            (rate("cauce_cost_usd_total", "route", "model", times="3600 * "),),
        ),
        Panel(
            Said("Baseline, USD an hour", "Referencia, USD por hora"),
            Said(
                "What the model that finance named would have cost.", "Lo que habría costado el modelo de referencia."
            ),
            "currencyUSD",
            (rate("cauce_baseline_usd_total", "route", times="3600 * "),),
        ),
        Panel(
            Said("Cost of 1,000 requests", "Coste de 1000 peticiones"),
            Said("By route; unknown costs are left out.", "Por ruta; sin los costes desconocidos."),
            "currencyUSD",
            (
                Query(
                    f"1000 * sum by (route) (rate({of('cauce_cost_usd_total')}{PER})) "
                    f"/ sum by (route) (rate({of('cauce_requests_total')}{PER}))",
                    same("{{route}}"),
                ),
            ),
        ),
        Panel(
            Said("Cascade: cost that brought nothing, USD an hour", "Cascada: coste sin provecho, USD por hora"),
            Said(
                "Answers that were turned down and not sent, and calls that checks made.",
                "Respuestas descartadas y no enviadas, y llamadas de los verificadores.",
            ),
            "currencyUSD",
            (rate("cauce_wasted_usd_total", "model", "why", times="3600 * "),),
        ),
        Panel(
            Said("Tokens", "Tokens"),
            Said("A second, by model and kind.", "Por segundo, por modelo y tipo."),
            "short",
            (rate("cauce_tokens_total", "model", "kind"),),
        ),
        Panel(
            Said("Tokens that brought nothing", "Tokens sin provecho"),
            Said("A second; the cascade's.", "Por segundo; los de la cascada."),
            "short",
            (rate("cauce_wasted_tokens_total", "model", "why"),),
        ),
        Panel(
            Said("Requests of unknown cost", "Peticiones de coste desconocido"),
            Said(
                "No price, or no usage: add a price to the price file. Unknown is never 0.",
                "Sin precio o sin consumo: añada el precio a su fichero. Desconocido nunca es 0.",
            ),
            "reqps",
            (rate("cauce_unknown_cost_requests_total", "model"),),
            (0.001,),
        ),
    ),
)
BUDGETS: Final = Row(
    Said("Budgets and limits", "Presupuestos y límites"),
    (
        Panel(
            Said("Budgets: share spent", "Presupuestos: parte gastada"),
            Said(
                "Of its day, month or total; keys' own budgets are in the console. Alerts at 80 and 100 %.",
                "De su día, mes o total; los de cada clave, en la consola. Alertas al 80 y al 100 %.",
            ),
            "percentunit",
            (Query("max by (budget) (cauce_budget_used_ratio)", same("{{budget}}")),),
            (0.8, 1),
        ),
        Panel(
            Said("Refused for a budget", "Rechazadas por presupuesto"),
            Said("Calls that a hard budget did not cover.", "Llamadas que un presupuesto estricto no cubría."),
            "reqps",
            (rate("cauce_budget_refusals_total", "level"),),
            (0.001,),
        ),
        Panel(
            Said("Alerts on budgets", "Avisos de presupuesto"),
            Said("In the last hour, by threshold and how they went.", "En la última hora, por umbral y cómo fueron."),
            "short",
            (
                Query(
                    "sum by (threshold, outcome) (increase(cauce_budget_alerts_total[1h]))",
                    same("{{threshold}} % {{outcome}}"),
                ),
            ),
        ),
        Panel(
            Said("Over a limit a minute", "Por encima de un límite por minuto"),
            Said(
                "Answered 429; and times that a process held a limit alone, its shared store away.",
                "Respondidas con 429; y veces que un proceso llevó un límite solo, sin su almacén común.",
            ),
            "reqps",
            (
                rate("cauce_rate_refusals_total", "level", "kind"),
                total("cauce_limits_alone_total", Said("held alone", "llevado a solas")),
            ),
        ),
    ),
)
BOARD: Final = Board(
    "finance",
    Said("Cauce: finance", "Cauce: finanzas"),
    ("route", "model", "team"),
    (MONTH, SPEND, BUDGETS),
    since="now-24h",
)

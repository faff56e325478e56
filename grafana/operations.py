"""Operations: is it up, is it fast, and what goes wrong where."""

from __future__ import annotations

from typing import Final

from grafana.panels import PER, Board, Panel, Query, Row, Said, of, quantiles, rate, same, total

_FAILED: Final = 'outcome=~"failed|cut"'

TRAFFIC: Final = Row(
    Said("Traffic", "Tráfico"),
    (
        Panel(
            Said("Requests by route and outcome", "Peticiones por ruta y resultado"),
            Said("Every request, refused and aborted ones too.", "Todas, también las rechazadas y las abandonadas."),
            "reqps",
            (rate("cauce_requests_total", "route", "outcome"),),
        ),
        Panel(
            Said("Requests by model", "Peticiones por modelo"),
            Said(
                "Whose answer was sent; without a name where there was none.",
                "De quién fue la respuesta enviada; sin nombre si no hubo ninguna.",
            ),
            "reqps",
            (rate("cauce_requests_total", "model"),),
        ),
        Panel(
            Said("Share that failed", "Proporción fallida"),
            Said(
                "Failed, or cut in the middle of a stream, of all requests. The alert CauceErrorRate fires at 5 %.",
                "Fallidas o cortadas a mitad de la respuesta, sobre el total. La alerta CauceErrorRate salta al 5 %.",
            ),
            "percentunit",
            (
                Query(
                    f"(sum(rate({of('cauce_requests_total', _FAILED)}{PER})) or vector(0)) "
                    f"/ sum(rate({of('cauce_requests_total')}{PER}))",
                    Said("failed", "fallidas"),
                ),
            ),
            (0.01, 0.05),
        ),
        Panel(
            Said("Errors by code", "Errores por código"),
            Said("REFERENCE.md says what each code means.", "REFERENCE.md dice qué significa cada código."),
            "reqps",
            (rate("cauce_errors_total", "code"),),
        ),
        Panel(
            Said("In flight", "En curso"),
            Said("Requests being served now, in all processes.", "Peticiones atendidas ahora, en todos los procesos."),
            "short",
            (Query("sum(cauce_requests_in_flight)", Said("requests", "peticiones")),),
            (2000, 4000),
        ),
        Panel(
            Said("Faults of the gateway's own", "Fallos del propio gateway"),
            Said(
                "Crashes answered with 500, and writes to the ledger that failed. Both should be 0.",
                "Errores internos respondidos con 500, y escrituras fallidas del libro mayor. Ambos deben ser 0.",
            ),
            "reqps",
            (
                total("cauce_crashes_total", Said("crashes", "errores internos")),
                total("cauce_ledger_failures_total", Said("ledger", "libro mayor")),
            ),
            (0.001, 0.1),
        ),
    ),
)
TIME: Final = Row(
    Said("Time", "Tiempo"),
    (
        Panel(
            Said("Whole request", "Petición entera"),
            Said("From the first byte received to the last one sent.", "Del primer byte recibido al último enviado."),
            "s",
            quantiles("cauce_request_seconds", "route"),
            (10, 30),
        ),
        Panel(
            Said("Gateway's own part", "Parte del gateway"),
            Said(
                "The time in which no upstream was being asked: reading, classifying, deciding, checking.",
                "El tiempo en que no se preguntaba a ningún modelo: leer, clasificar, decidir, verificar.",
            ),
            "s",
            quantiles("cauce_gateway_seconds", "route"),
            (0.05, 0.25),
        ),
        Panel(
            Said("Upstream calls", "Llamadas a modelos"),
            Said("Each call to a model, to its last byte.", "Cada llamada a un modelo, hasta su último byte."),
            "s",
            quantiles("cauce_upstream_seconds", "model"),
        ),
        Panel(
            Said("First byte of a stream", "Primer byte de un flujo"),
            Said("Until a streamed answer begins, for the client.", "Hasta que empieza la respuesta, para el cliente."),
            "s",
            quantiles("cauce_first_byte_seconds", "model"),
            (5, 20),
        ),
        Panel(
            Said("Classification", "Clasificación"),
            Said(
                "All signals of a request, privacy scan included.", "Todas las señales, con el análisis de privacidad."
            ),
            "s",
            quantiles("cauce_classify_seconds"),
            (0.05,),
        ),
    ),
)
MODELS: Final = Row(
    Said("Models", "Modelos"),
    (
        Panel(
            Said("Calls by model and how they ended", "Llamadas por modelo y cómo acabaron"),
            Said("Retries, hedges, judges and shadows too.", "También reintentos, dobles, jueces y copias."),
            "reqps",
            (rate("cauce_upstream_attempts_total", "model", "outcome"),),
        ),
        Panel(
            Said("Circuit breakers", "Cortacircuitos"),
            Said("0 closed, 0.5 half-open, 1 open: left alone.", "0 cerrado, 0,5 a prueba, 1 abierto: en reposo."),
            "short",
            (Query(f"max by (model, replica) ({of('cauce_circuit_open')})", same("{{model}} {{replica}}")),),
            (0.5, 1),
        ),
        Panel(
            Said("Models that take calls, by zone", "Modelos que atienden, por zona"),
            Said(
                "Without one on the premises, personal data is answered by nobody.",
                "Sin ninguno en casa, nadie responde a los datos personales.",
            ),
            "short",
            (Query("min by (zone) (cauce_models_ready)", same("{{zone}}")),),
        ),
        Panel(
            Said("Cloud, and answers without it", "La nube, y respuestas sin ella"),
            Said(
                "1 up, 0.5 degraded, 0 down; requests a second that a local model answered because it was away.",
                "1 disponible, 0,5 degradada, 0 caída; peticiones por segundo respondidas en casa por su falta.",
            ),
            "short",
            (
                Query("min(cauce_cloud_up)", Said("cloud", "nube")),
                Query(
                    f"sum(rate({of('cauce_offline_requests_total')}{PER})) or vector(0)",
                    Said("answered offline", "respondidas sin nube"),
                ),
            ),
        ),
        Panel(
            Said("Retries, and calls beside slow ones", "Reintentos, y llamadas dobles"),
            Said(
                "Calls made again, and hedges: ok answered first, outrun came too late.",
                "Llamadas repetidas, y dobles: ok respondió antes, outrun llegó tarde.",
            ),
            "reqps",
            (
                rate("cauce_upstream_retries_total", "model", "outcome"),
                rate("cauce_upstream_hedges_total", "outcome"),
            ),
        ),
        Panel(
            Said("Fallbacks to another model", "Paso a otro modelo"),
            Said("By the model that failed, and how.", "Por el modelo que falló, y cómo."),
            "reqps",
            (rate("cauce_fallbacks_total", "model", "outcome"),),
        ),
    ),
)
STORES: Final = Row(
    Said("Cache, ledger, policy", "Caché, libro mayor, política"),
    (
        Panel(
            Said("Cache", "Caché"),
            Said("Hits, misses, and requests that do not use it.", "Aciertos, fallos y peticiones que no la usan."),
            "reqps",
            (rate("cauce_cache_total", "state"),),
        ),
        Panel(
            Said("Cache size", "Tamaño de la caché"),
            Said("In memory, of all processes.", "En memoria, de todos los procesos."),
            "bytes",
            (Query("sum(cauce_cache_bytes)", Said("held", "ocupado")),),
        ),
        Panel(
            Said("Ledger entries waiting", "Entradas del libro mayor en espera"),
            Said(
                "Not in the database yet. Replies go on; entries on disk survive a crash.",
                "Aún no están en la base de datos. Se sigue respondiendo; las del disco sobreviven a una caída.",
            ),
            "short",
            (
                Query("sum(cauce_ledger_waiting)", Said("entries", "entradas")),
                Query("sum(cauce_ledger_spooled)", Said("of them on disk", "de ellas en disco")),
                Query("max(cauce_ledger_away)", Said("database away (1)", "base de datos ausente (1)")),
            ),
            (100, 1000),
        ),
        Panel(
            Said("Spool used", "Ocupación de la cola en disco"),
            Said(
                "The fullest process. Full, entries wait in memory (spool.max_mb).",
                "El proceso más lleno. Llena, las entradas esperan en memoria (spool.max_mb).",
            ),
            "percentunit",
            (Query("max(cauce_ledger_spool_used_ratio)", Said("fullest", "el más lleno")),),
            (0.5, 0.8),
        ),
        Panel(
            Said("Trace spans", "Tramos de trazas"),
            Said(
                "Made, sent, and failed to be sent (telemetry.otlp_endpoint); requests never wait for them.",
                "Creados, enviados y no enviados (telemetry.otlp_endpoint); ninguna petición los espera.",
            ),
            "short",
            (rate("cauce_trace_spans_total", "outcome"),),
        ),
        Panel(
            Said("Changed policies", "Cambios de política"),
            Said(
                "Put in force or refused in the last hour; 1 while a refused file stands there.",
                "Aplicados o rechazados en la última hora; 1 mientras siga ahí un fichero rechazado.",
            ),
            "short",
            (
                Query("sum by (outcome) (increase(cauce_policy_reloads_total[1h]))", same("{{outcome}}")),
                Query("max(cauce_policy_refused)", Said("refused now (1)", "rechazado ahora (1)")),
            ),
            (1,),
        ),
    ),
)
BOARD: Final = Board(
    "operations",
    Said("Cauce: operations", "Cauce: operaciones"),
    ("route", "model"),
    (TRAFFIC, TIME, MODELS, STORES),
)

"""Word classes, Spanish and English first. Only words that are one piece of the vocabulary count.

The same in every language they are written for: that is what keeps a question and its translation together.
"""

from __future__ import annotations

from typing import Final

LEXICON: Final[dict[str, str]] = {
    "fact": (
        "what which who whom whose when where que qué cual cuál cuales cuáles quien quién quienes cuando cuándo "
        "donde dónde quel quelle qui quand où was wer wann wo welche welcher qual quem quando onde chi dove quale"
    ),
    "why": (
        "why how explain por qué cómo como porqué porque explica explícame explicar razona pourquoi comment "
        "explique warum wie erkläre perché spiega perquè"
    ),
    "amount": (
        "many much total each per every average percent percentage cost costs sum remaining left twice half times "
        "cuanto cuánto cuanta cuánta cuantos cuántos cuantas cuántas cada media promedio porcentaje cuesta total "
        "suma quedan doble mitad veces combien chaque wie viele jeder quanto quantos quanti"
    ),
    "not": (
        "not except never none neither nor no without least false incorrect unless excepto ni nunca ninguno "
        "ninguna sin menos falso falsa incorrecta incorrecto salvo tampoco nada jamais aucun sans nicht kein ohne"
    ),
    "write": (
        "write draft compose poem story essay letter blog post article slogan email mail speech tweet create "
        "invent escribe redacta redáctame escríbeme redactar escribir poema cuento relato historia ensayo carta "
        "artículo eslogan correo discurso crea inventa haz hazme écris rédige schreibe verfasse scrivi escreva"
    ),
    "rewrite": (
        "rewrite rephrase paraphrase formal tone proofread improve shorter grammar reescribe reformula corrige "
        "mejora tono ortografía acorta informal reescribir corregir ton reformule"
    ),
    "translate": (
        "translate translation traduce tradúceme traducir traducción traduis übersetze traduza traduci english "
        "spanish french german italian portuguese inglés ingles español espanol francés frances alemán aleman "
        "italiano portugués catalán gallego euskera valenciano"
    ),
    "summarize": (
        "summarize summarise summary tldr bullet bullets resume resúmeme resumen resumir resume síntesis "
        "sintetiza puntos résumé résume zusammenfassung riassumi"
    ),
    "classify": (
        "classify classification label category categories sentiment positive negative neutral spam intent "
        "clasifica clasificar etiqueta categoría categorias categorías sentimiento positiva positivo negativa "
        "negativo neutra neutro intención urgente"
    ),
    "extract": (
        "extract list fields json csv table names dates extrae extraer saca lista campos nombres fechas tabla "
        "importes devuelve identify identifica mentioned extrais"
    ),
    "reason": (
        "prove proof derive show demonstrate argue analyze analyse evaluate compare contrast assess trade justify "
        "infer deduce implies therefore logic paradox hypothesis demuestra demostrar deduce deriva razona "
        "argumenta analiza analizar evalúa compara comparar justifica contrasta hipótesis lógica paradoja implica "
        "démontre analysiere beweise"
    ),
    "plan": (
        "design plan strategy architecture roadmap optimize optimise optimal scale migrate migration budget "
        "scenario diseña diseñar planifica plan estrategia arquitectura optimiza optimizar óptimo óptima escalar "
        "migrar migración presupuesto escenario propon propón roadmap"
    ),
    "code": (
        "function python java javascript sql regex code program script bug error api class method array string "
        "query loop compile algorithm async función código programa consulta clase método algoritmo bucle html "
        "css docker kubernetes git linux bash typescript rust react endpoint assert return def input output"
    ),
    "math": (
        "equation integral derivative matrix theorem probability triangle function polynomial vector limit solve "
        "calculate compute find determine ecuación integral derivada matriz teorema probabilidad triángulo "
        "polinomio vector límite resuelve calcula halla determina modulo prime integer real roots angle radius "
        "velocity mass energy force velocidad masa energía fuerza"
    ),
    "limit": (
        "must should exactly only least most words sentences paragraphs maximum minimum strictly avoid include "
        "ensure debe deben exactamente solo sólo máximo mínimo palabras frases párrafos evita incluye asegúrate "
        "líneas lines"
    ),
    "service": (
        "my account card order bill invoice refund password cancel open hours delivery return shipping phone app "
        "store appointment mi cuenta tarjeta pedido factura devolución contraseña cancelar horario abrís envío "
        "devolver tienda cita reserva tarifa línea router móvil quiero puedo need want can activar saldo"
    ),
    "law": (
        "law court contract plaintiff defendant statute liability jurisdiction ley tribunal contrato demandante "
        "demandado responsabilidad artículo jurisdicción cláusula sentencia recurso rgpd gdpr"
    ),
    "health": (
        "patient disease symptoms treatment dose blood diagnosis paciente enfermedad síntomas tratamiento dosis "
        "sangre diagnóstico médico doctor cell cells gene protein"
    ),
    "recommend": (
        "recommend suggest suggestion best ideas idea gift options advice recomienda recomiéndame sugiere "
        "sugiéreme mejor mejores ideas regalo opciones consejo consejos recommande empfiehl"
    ),
    "polite": (
        "please thanks thank hi hello hey dear kindly por favor gracias hola buenas buenos días tardes saludos "
        "oye bonjour merci bitte"
    ),
    "hedge": (
        "if suppose assume given although however whereas unless because then si suponga supón dado aunque "
        "embargo entonces mientras además"
    ),
    "person": "i you he she they we me him her yo tú él ella ellos nosotros usted me te se je il elle ich er sie",
}
FUNCTION_WORDS: Final = (
    "a an the of to in on for with and or is are de la el los las en para con y o es son un una del al le les "
    "des du et der die das und"
)

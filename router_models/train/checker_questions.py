"""Questions whose right answer is known, for a small model to answer: what the answer checker learns from.

Facts and sums in Spanish and English, in the order of the lists: the same questions each time. None is out of a
benchmark. `right` is what an answer must hold, each of its alternatives between bars; see `is_right`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from router_models.features import without_accents

_SEED: Final = 11
_CAPITALS: Final = """España/Spain/Madrid/Madrid Francia/France/París/Paris Italia/Italy/Roma/Rome
Portugal/Portugal/Lisboa/Lisbon Alemania/Germany/Berlín/Berlin Grecia/Greece/Atenas/Athens Japón/Japan/Tokio/Tokyo
China/China/Pekín/Beijing Rusia/Russia/Moscú/Moscow Egipto/Egypt/Cairo/Cairo Perú/Peru/Lima/Lima
Chile/Chile/Santiago/Santiago Argentina/Argentina/Aires/Aires Colombia/Colombia/Bogotá/Bogota
Ecuador/Ecuador/Quito/Quito Uruguay/Uruguay/Montevideo/Montevideo Bolivia/Bolivia/Sucre/Sucre Cuba/Cuba/Habana/Havana
México/Mexico/México/Mexico Canadá/Canada/Ottawa/Ottawa Australia/Australia/Canberra/Canberra
Noruega/Norway/Oslo/Oslo Suecia/Sweden/Estocolmo/Stockholm Finlandia/Finland/Helsinki/Helsinki
Dinamarca/Denmark/Copenhague/Copenhagen Polonia/Poland/Varsovia/Warsaw Hungría/Hungary/Budapest/Budapest
Austria/Austria/Viena/Vienna Suiza/Switzerland/Berna/Bern Irlanda/Ireland/Dublín/Dublin Turquía/Turkey/Ankara/Ankara
Marruecos/Morocco/Rabat/Rabat Kenia/Kenya/Nairobi/Nairobi India/India/Delhi/Delhi Tailandia/Thailand/Bangkok/Bangkok
Vietnam/Vietnam/Hanói/Hanoi Rumanía/Romania/Bucarest/Bucharest Bulgaria/Bulgaria/Sofía/Sofia
Ucrania/Ukraine/Kiev/Kyiv|Kiev Bélgica/Belgium/Bruselas/Brussels Túnez/Tunisia/Túnez/Tunis
Paraguay/Paraguay/Asunción/Asuncion Venezuela/Venezuela/Caracas/Caracas Líbano/Lebanon/Beirut/Beirut"""
_WORDS: Final = """
perro/dog gato/cat casa/house agua/water pan/bread leche/milk sol/sun luna/moon árbol/tree flor/flower
libro/book mesa/table silla/chair puerta/door ventana/window coche/car tren/train avión/plane barco/ship|boat
calle/street ciudad/city mar/sea montaña/mountain río/river cielo/sky tierra/earth|land fuego/fire nieve/snow
lluvia/rain viento/wind rojo/red azul/blue verde/green negro/black blanco/white amarillo/yellow grande/big|large
pequeño/small|little nuevo/new viejo/old feliz/happy triste/sad rápido/fast|quick lento/slow frío/cold
caliente/hot noche/night mañana/morning lunes/monday viernes/friday enero/january verano/summer invierno/winter
hermano/brother hermana/sister padre/father madre/mother hijo/son amigo/friend médico/doctor escuela/school
dinero/money trabajo/work|job mano/hand cabeza/head ojo/eye boca/mouth corazón/heart manzana/apple
naranja/orange queso/cheese huevo/egg carne/meat pescado/fish arroz/rice azúcar/sugar sal/salt
factura/bill|invoice préstamo/loan cuenta/account tarjeta/card"""
_OPPOSITES: Final = """hot/cold big/small|little fast/slow up/down left/right open/closed|close|shut happy/sad day/night
young/old rich/poor light/dark|heavy wet/dry hard/soft|easy full/empty early/late strong/weak high/low first/last
buy/sell love/hate war/peace true/false inside/outside|out push/pull begin/end clean/dirty thick/thin loud/quiet|soft"""
_CONTRARIOS: Final = """frío/caliente|calor alto/bajo grande/pequeño|pequeña rápido/lento día/noche blanco/negro
feliz/triste lleno/vacío joven/viejo|anciano rico/pobre limpio/sucio duro/blando|suave abierto/cerrado largo/corto
dentro/fuera|afuera arriba/abajo fácil/difícil primero/último comprar/vender amor/odio guerra/paz entrar/salir"""
_SYMBOLS: Final = """hidrógeno/hydrogen/H oxígeno/oxygen/O carbono/carbon/C nitrógeno/nitrogen/N sodio/sodium/Na
hierro/iron/Fe oro/gold/Au plata/silver/Ag cobre/copper/Cu plomo/lead/Pb potasio/potassium/K calcio/calcium/Ca
helio/helium/He cloro/chlorine/Cl mercurio/mercury/Hg estaño/tin/Sn zinc/zinc/Zn aluminio/aluminium/Al"""
_FACTS: Final = """How many days are there in a week?=7|seven
How many months are there in a year?=12|twelve
How many minutes are there in an hour?=60|sixty
How many hours are there in a day?=24
How many legs does a spider have?=8|eight
How many sides does a hexagon have?=6|six
How many sides does a triangle have?=3|three
How many continents are there?=7|seven
How many centimetres are there in a metre?=100
How many grams are there in a kilogram?=1000|1,000
At how many degrees Celsius does water boil?=100
At how many degrees Celsius does water freeze?=0|zero
Which planet is the largest in the solar system?=Jupiter
Which planet is closest to the Sun?=Mercury
Who wrote Don Quixote?=Cervantes
Who wrote Hamlet?=Shakespeare
Who painted Guernica?=Picasso
Who painted the Mona Lisa?=Leonardo|Vinci
In which year did the Second World War end?=1945
In which year did Columbus first reach America?=1492
In which year did people first land on the Moon?=1969
What is the longest river in Africa?=Nile
What is the largest ocean?=Pacific
What is the highest mountain in the world?=Everest
What gas do plants take in for photosynthesis?=carbon dioxide|CO2
What is the square root of 81?=9|nine
What is the chemical formula of water?=H2O
Which language is mostly spoken in Brazil?=Portuguese
What is the currency of Japan?=yen
What is the currency of the United Kingdom?=pound
How many strings does a violin have?=4|four
How many players does a football team have on the pitch?=11|eleven
What colour do you get when you mix blue and yellow?=green
Which organ pumps blood through the body?=heart
What do bees make?=honey
Which animal is known as the king of the jungle?=lion
What is the first month of the year?=January
Which day comes after Monday?=Tuesday
¿Cuántos días tiene una semana?=7|siete
¿Cuántos meses tiene un año?=12|doce
¿Cuántos minutos tiene una hora?=60|sesenta
¿Cuántas horas tiene un día?=24|veinticuatro
¿Cuántas patas tiene una araña?=8|ocho
¿Cuántos lados tiene un triángulo?=3|tres
¿Cuántos centímetros tiene un metro?=100|cien
¿Cuántos gramos tiene un kilo?=1000|1.000|mil
¿A cuántos grados centígrados hierve el agua?=100|cien
¿Cuál es el planeta más grande del sistema solar?=Júpiter
¿Cuál es el planeta más cercano al Sol?=Mercurio
¿Quién escribió el Quijote?=Cervantes
¿Quién escribió Hamlet?=Shakespeare
¿Quién pintó el Guernica?=Picasso
¿Quién pintó Las meninas?=Velázquez
¿En qué año llegó Colón a América?=1492
¿En qué año terminó la Segunda Guerra Mundial?=1945
¿En qué año llegó el ser humano a la Luna?=1969
¿Cuál es el río más largo de España?=Tajo
¿Cuál es el océano más grande?=Pacífico
¿Cuál es la montaña más alta del mundo?=Everest
¿Cuál es la fórmula química del agua?=H2O
¿Qué idioma se habla en Brasil?=portugués
¿Cuál es la moneda de Japón?=yen
¿Cuál es la raíz cuadrada de 81?=9|nueve
¿Cuántos jugadores de un equipo de fútbol hay en el campo?=11|once
¿Qué color sale al mezclar azul y amarillo?=verde
¿Qué órgano bombea la sangre?=corazón
¿Qué hacen las abejas?=miel
¿Cuál es el primer mes del año?=enero
¿Qué día viene después del lunes?=martes
¿Cuánto es la mitad de 50?=25|veinticinco"""
_NAMES: Final = ("Ana", "Luis", "Marta", "Pedro", "Lucía", "Jorge", "Emma", "Tom", "Sara", "Ben")
_THINGS: Final = (("apples", "manzanas"), ("books", "libros"), ("tickets", "entradas"), ("coins", "monedas"))
_LABELS: Final = (
    ("I love this phone, it works perfectly.", "positive"),
    ("The delivery was late and the box was broken.", "negative"),
    ("Best service I have had in years!", "positive"), ("I want my money back, this is a scam.", "negative"),
    ("The food was cold and the waiter was rude.", "negative"),
    ("Everything arrived early and well packed.", "positive"),
    ("I would not recommend this hotel to anyone.", "negative"), ("Great value, I will buy again.", "positive"),
    ("The screen stopped working after two days.", "negative"), ("Such a friendly team, thank you!", "positive"),
    ("It crashes every time I open it.", "negative"), ("My kids adore it.", "positive"),
)  # fmt: skip
_ETIQUETAS: Final = (
    ("Me encanta, funciona de maravilla.", "positivo|positiva"), ("Llegó tarde y roto.", "negativo|negativa"),
    ("El mejor trato en años.", "positivo|positiva"), ("Quiero que me devuelvan el dinero.", "negativo|negativa"),
    ("La comida estaba fría y el camarero fue borde.", "negativo|negativa"),
    ("Repetiré sin duda.", "positivo|positiva"),
    ("No se lo recomiendo a nadie.", "negativo|negativa"), ("Muy buena relación calidad precio.", "positivo|positiva"),
    ("La aplicación se cierra sola cada dos por tres.", "negativo|negativa"),
    ("Un equipo encantador.", "positivo|positiva"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Known:
    """A question, what kind it is, its language, and what a right answer holds."""

    kind: str
    language: str
    text: str
    right: str


def questions() -> Iterator[Known]:
    """All of them."""
    yield from _facts()
    yield from _sums(random.Random(_SEED))
    yield from _problems(random.Random(_SEED + 1))
    yield from _read(random.Random(_SEED + 2))


def _facts() -> Iterator[Known]:
    for line in _CAPITALS.split():
        pais, country, es, en = line.split("/")
        yield Known("capital", "en", f"What is the capital of {country}?", en)
        yield Known("capital", "es", f"¿Cuál es la capital de {pais}?", es)
        yield Known("country", "en", f"{en.split('|')[0]} is the capital of which country?", country)
    for line in _WORDS.split():
        es, en = line.split("/")
        yield Known("word", "en", f"What is the English word for the Spanish word '{es}'?", en)
        yield Known("word", "es", f"¿Cómo se dice '{en.split('|')[0]}' en español?", es)
    for line in _OPPOSITES.split():
        word, other = line.split("/")
        yield Known("opposite", "en", f"What is the opposite of '{word}'?", other)
    for line in _CONTRARIOS.split():
        word, other = line.split("/")
        yield Known("opposite", "es", f"¿Qué es lo contrario de '{word}'?", other)
    for line in _SYMBOLS.split():
        es, en, symbol = line.split("/")
        yield Known("symbol", "en", f"What is the chemical symbol of {en}?", symbol)
        yield Known("symbol", "es", f"¿Cuál es el símbolo químico de {es}?", symbol)
    for line in _FACTS.splitlines():
        text, right = line.split("=")
        yield Known("fact", "es" if text.startswith("¿") else "en", text, right)


def _sums(draw: random.Random) -> Iterator[Known]:
    for number in range(160):
        top = 12 if number % 2 else 90
        a, b = draw.randint(2, top), draw.randint(2, 12 if number % 4 < 2 else top)
        said, value = (("+", a + b), ("-", a - b), ("x", a * b))[number % 3]
        ask = f"What is {a} {said} {b}?" if number % 2 else f"¿Cuánto es {a} {said} {b}?"
        yield Known("sum", "en" if number % 2 else "es", ask, str(value))


def _problems(draw: random.Random) -> Iterator[Known]:
    for number in range(120):
        name, (thing, cosa) = draw.choice(_NAMES), draw.choice(_THINGS)
        a, b, c = draw.randint(5, 30), draw.randint(2, 20), draw.randint(1, 4)
        if number % 2:
            text = f"{name} has {a} {thing}, buys {b} more and gives {c} away. How many {thing} does {name} have now?"
            yield Known("problem", "en", text, str(a + b - c))
        else:
            text = f"{name} compra {c} cajas con {b} {cosa} en cada una. ¿Cuántas {cosa} tiene en total?"
            yield Known("problem", "es", text, str(b * c))


def _read(draw: random.Random) -> Iterator[Known]:
    for text, label in _LABELS:
        yield Known("label", "en", f"Is this review positive or negative? Answer in one word.\n{text}", label)
    for text, label in _ETIQUETAS:
        yield Known("label", "es", f"¿Esta opinión es positiva o negativa? Responde en una palabra.\n{text}", label)
    for number in range(60):
        name, order, day = draw.choice(_NAMES), draw.randint(10_000, 99_999), draw.randint(2, 28)
        if number % 2:
            text = (
                f"Which order number does this mail give?\nHi, {name} here. My order {order} of {day} May has not come."
            )
        else:
            mail = f"Hola, soy {name}. El pedido {order} del {day} de mayo no llega."
            text = f"¿Qué número de pedido da este correo?\n{mail}"
        yield Known("extract", "en" if number % 2 else "es", text, str(order))


_TOKEN: Final = re.compile(r"\d+(?:[.,]\d+)*|\w+")


def is_right(known: Known, answer: str) -> bool:
    """Whether an answer holds the right word or number; a classification must not name both labels."""
    words = _words(answer, known.kind == "symbol")
    if known.kind == "label" and {"positiv", "negativ"} <= {word[:7] for word in words}:
        return False
    return any(_holds(words, _words(right, known.kind == "symbol")) for right in known.right.split("|"))


def _words(text: str, exact: bool) -> list[str]:
    words = _TOKEN.findall(text)
    return words if exact else [without_accents(word).lower().replace(",", "").rstrip(".") for word in words]


def _holds(words: list[str], wanted: list[str]) -> bool:
    return any(words[start : start + len(wanted)] == wanted for start in range(len(words)))

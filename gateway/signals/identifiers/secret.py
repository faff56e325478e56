"""classify: keys, tokens, private keys, connection strings, assignments of a secret, passwords and codes said in words."""

# ruff: noqa: E501 - patterns and lists of words read better unbroken

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

from gateway.signals.identifiers.base import CERTAIN, LIKELY, SOFT, WEAK, Found, Scan, found, words
from gateway.signals.taxonomy import Kind

_LONG = re.compile(r"(?<![A-Za-z0-9_\-+/=.~])[A-Za-z0-9_\-+/=.~:]{16,8192}")
_TOKEN = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"
    r"|gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{40,}|glpat-[\w\-]{20,}|gl(?:ptt|dt|rt|cbt|soat|ft|imt|agent)-[\w\-]{16,}"
    r"|sk-(?:proj-|ant-(?:api|admin)\d\d-|or-v1-|svcacct-|live-|test-)?[A-Za-z0-9_\-]{20,}|(?:sk|pk|rk)_(?:live|test|prod)_[A-Za-z0-9]{10,}"
    r"|xox[abeoprs]-[A-Za-z0-9\-]{10,}|xapp-\d-[A-Za-z0-9\-]{10,}|AIza[\w\-]{35}(?![\w\-])|ya29\.[\w\-]{20,}|GOCSPX-[\w\-]{20,}"
    r"|SG\.[\w\-]{16,}\.[\w\-]{16,}|eyJ[\w\-]{10,}\.(?:eyJ)?[\w\-]{10,}(?:\.[\w\-]*)?|hf_(?=[a-z]{0,30}[A-Z0-9])[A-Za-z0-9]{30,}|npm_[A-Za-z0-9]{30,}|dckr_(?:pat|oat)_[\w\-]{20,}"
    r"|pypi-[\w\-]{50,}|shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}|dop_v1_[a-f0-9]{64}|do[or]_v1_[a-f0-9]{64}|key-[0-9a-zA-Z]{24,}|hv[sb]\.[\w\-]{24,}"
    r"|EAA[A-Za-z0-9]{40,}|AC[a-f0-9]{32}\b|SK[a-f0-9]{32}\b|AGE-SECRET-KEY-1[0-9A-Z]{50,}|ntn_[A-Za-z0-9]{40,}|secret_[A-Za-z0-9]{40,}|lin_api_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}"
    r"|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{30,}|tvly-[A-Za-z0-9]{20,}|sq0[a-z]{3}-[\w\-]{20,}|dapi[a-f0-9]{32}|PMAK-[\w\-]{50,}|rubygems_[a-f0-9]{40,}|CFPAT-[\w\-]{40,}|NRAK-[A-Z0-9]{20,}"
    r"|dt0c01\.[A-Z0-9]{20,}\.[A-Z0-9]{40,}|FLWSECK_TEST-[\w\-]{10,}|FwSDK[\w\-]{10,}|LTAI[A-Za-z0-9]{18,}|sntry[su]_[\w=\-]{30,}|glc_[A-Za-z0-9+/=]{30,}|glsa_[\w]{30,}|pul-[a-f0-9]{40}|ATATT3[\w\-=]{60,}"
    r"|T3BlbkFJ|figd_[\w\-]{30,}|xkeysib-[a-f0-9]{40,}|pscale_(?:tkn|pw|oauth)_[\w\-.=]{20,}|tfp_[\w]{40,}|[0-9]{8,10}:AA[\w\-]{33}|sgp_(?:[A-Za-z0-9]{1,20}_)?[A-Fa-f0-9]{40}|(?<![\w~.])[\w~.]{3}[0-9]Q~[\w~.\-]{31,34})"
)
_PEM = re.compile(
    r"-----BEGIN[ A-Z0-9_]{0,60}PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]{0,8000}?-----END[ A-Z0-9_]{0,60}PRIVATE KEY(?: BLOCK)?-----)?"
)
_URL_PASSWORD = re.compile(
    r"(?<![A-Za-z])[A-Za-z][A-Za-z0-9+.\-]{1,30}://[^\s/:@\"'<>]{0,80}:([^\s/@\"'<>]{2,200})@[\w.\-]{2,}"
)
_WEBHOOK = re.compile(
    r"https://(?:hooks\.slack\.com/(?:services|workflows)/[\w/]{20,}|discord(?:app)?\.com/api/webhooks/[\w/\-]{20,}|[\w.\-]{1,80}webhook\.office\.com/[\w@/\-]{20,})"
)
_HEADER = re.compile(
    r"authorization[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:bearer|basic|token|apikey|api-key|digest)?\s{0,3}([A-Za-z0-9+/=_.\-~]{8,})|bearer\s{1,3}([a-z0-9+/=_.\-~]{16,})",
    re.IGNORECASE,
)
_CURL_USER = re.compile(r"(?:^|\s)(?:-u|--user|--proxy-user)[ =]?[\"']?[\w.\-@]{0,60}:([^\s\"']{3,})")
_CLI_PASSWORD = re.compile(
    r"(?i:--?(?:password|passwd|pass|token|secret|client-?secret|api-?key|auth-token)[ =]|(?<=\s)-p(?=\S{6,}))[\"']?([^\s\"'<>$]{4,})"
)

# `name = value` in code, configuration and shell.
_ASSIGN = re.compile(
    r"(?:(?:api[_\-]?key|apikey|secret|token|passw(?:or)?d|passwd|pwd|passphrase|clave|contrase[nñ]a|contrasenya|private[_\-]?key|access[_\-]?key|credential|auth|account[_\-]?key|"
    r"client[_\-]?secret|encryption[_\-]?key|license[_\-]?key|webhook|dsn|signature|salt|_key|-key|\bkey)[\w.\-]{0,24})"
    r"[\"'\]]{0,3}\s{0,4}$"
)
_OPERATOR = re.compile(
    r"(?::=|=>|[:=])(?:[ \t]{0,4}|\s{0,4}(?=[\"'`]))(?:[A-Za-z]{1,10}\()?[\"'`]?([^\s\"'`,;)>\]}]{4,512})"
)
_ASSIGN_GATES = (
    "key",
    "secret",
    "token",
    "passw",
    "pwd",
    "passphrase",
    "clave",
    "contrase",
    "credential",
    "auth",
    "webhook",
    "dsn",
    "signature",
    "salt",
)
_PLACEHOLDER = re.compile(
    r"^(?:<.*|\[[A-Za-z_ \-]+\]?|\$\{?[A-Za-z_({].*|\{\{?.*|%[\w(].*|.*x{4,}.*|\*{3,}.*|\.{3,}.*|…+|_+|-+|.*\[redacted\].*|.*(?:put|your|tu|insert)_?-?(?:your|token|key|clave|api|password).*|(?:your|tu|my|mi|some|the|la|el|un|una|insert|change|change_?me|replace|put|enter|pon|inserta|example|ejemplo|sample|dummy|fake|placeholder|redacted|todo|fixme|none|null|nil|undefined|true|false|string|str|int|bool|bytes|optional|required|self|this|env|os|process|config|settings|request|req|res|args|kwargs|params|options|secrets?|vault|getenv|input|prompt|getpass|password|passwd|token|secret|apikey|api_key|clave|contraseña|key|value|abc123|test|foo|bar|hunter2?)(?:[\-_. >(\[{:][A-Za-z_\-. >(\[\]{}):]*)?)$",
    re.IGNORECASE,
)
_CODE_VALUE = re.compile(
    r"^(?:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:[\[(].*)?|[A-Za-z_]\w*\(.*|[A-Za-z_]\w*\[.*|[a-z]+(?:[A-Z][a-z]+)+|[a-z]+(?:[_\-][a-z]+)*|[A-Z]+(?:_[A-Z]+)+|[A-Z][a-z]+(?:[A-Z][a-z]+)*)$"
)
_FILE_VALUE = re.compile(r"^(?:/|\./|\.\./|~/|https?://|arn:|[A-Za-z]:\\)")
_MIN_ENTROPY = 2.8

# Passwords, PINs and one-time codes said in words. The word, a few others, a verb or a colon, the value.
_SAID_WORDS = (
    "contrase", "clave", "password", "passcode", "passphrase", "passwd", "pin", "puk", "cvv", "cvc", "código", "codigo", "codi", "code", "otp",
    "pasahitza", "contrasinal", "contrasenya", "palavra-passe", "senha", "mot de passe", "mdp", "kodea", "token", "pwd", "pass", "psswd", "palavra passe", "csc", "combinaci",
)  # fmt: skip
_USER_WORDS = ("usuari", "user", "login", "acceso", "access", "creden", "supervisor", "utilizador")
_SAID = re.compile(
    r"(?<![^\W_])(?P<word>contraseñas?|contrasena|contrasenya|contrasinal|clave|password|passcode|passphrase|passwd|passwrd|pwd|pass|pin|puk|cvv|cvc|csc|otp|"
    r"código|codigo|codi|code|pasahitza|palavra-passe|palavra passe|senha|mot de passe|mdp|kodea|token|combinación|combinacion)(?![^\W_])"
    r"(?:\s+(?!es\b|is\b|son\b|was\b|era\b|és\b|est\b|é\b|da\b)[^\s:=]{1,20}){0,7}?\s*(?:[:=]|(?<![^\W_])(?:es|is|son|era|was|és|est|é|da|sería|seria|ha sido|puse|pongo|uso|ahora es|i use|set to|to|con)(?![^\W_]))\s*"
    r"(?:(?:el|la|the|this|este|esta|aquest|aquesta|o|a)\s+(?=[0-9]))?[\"'«“‘`(]?(?P<value>[^\s\"'»”’`]{3,64})"
)
_SAID_DIRECT = re.compile(
    r"(?<![\w\-])(?P<word>contraseña|contrasena|contrasenya|clave|password|passcode|passwd|pwd|pass|pin|puk|cvv|cvc|otp|senha|mdp|pasahitza|código|codigo|code)(?:\s*[:=]\s*|\s+)[\"'«“‘`(]?(?P<value>[^\s\"'»”’`]{3,64})"
)
_BEFORE_CODE = re.compile(
    r"(?<![^\W_])(?P<value>[0-9]{4,8}|[0-9]{3}[ \-][0-9]{3})(?:[^\w\n]{1,3})(?:es|is|és|é|est|da)\s+(?:el|mi|my|your|tu|su|the|o meu|el meu|mon|nire)?\s*(?:código|codigo|code|pin|otp|codi|clave|password)"
)
_NUMBER_WORDS_ONLY = frozenset(
    {
        "pin",
        "puk",
        "cvv",
        "cvc",
        "csc",
        "otp",
        "código",
        "codigo",
        "codi",
        "code",
        "kodea",
        "passcode",
        "combinación",
        "combinacion",
        "token",
    }
)
_STRONG_NUMBER_WORDS = frozenset({"pin", "puk", "cvv", "cvc", "csc", "otp", "passcode"})
_CODE_CONTEXT = re.compile(
    r"(?<![^\W_])(?:sms|verifica|verificación|verificacion|verification|acceso|access|llegado|recibido|recibí|received|texted|got|security|seguridad|desbloqueo|unlock|alarma|alarm|portal|puerta|door|gate|"
    r"2fa|mfa|one-time|doble factor|segundo factor|firma|bizum|banco|bank|cajero|whatsapp|autenticación|authenticator|login|iniciar sesión|confirmar|confirmación|confirm|tarjeta|card|caja fuerte|safe|candado|lock)(?![^\W_])"
)
_NOT_A_CODE = re.compile(
    r"(?<![^\W_])(?:error|http|postal|país|country|area|zip|promo|promocional|descuento|discount|cupón|coupon|voucher|producto|product|barras|bar|qr|estado|status|salida|exit|fuente|source|color|cnae|ean|isbn|sku|iata|icd|cie|"
    r"civil|penal|comercio|defecto|default|fábrica|factory|ejemplo|example|morse|ética|conducta|dress|asignatura|curso|pedido|order|referencia|reference|seguimiento|tracking|artículo|article|prefijo|dialling|dialing|swift|bic)(?![^\W_])"
)
_USER_AND = re.compile(
    r"(?<![^\W_])(?:usuario|user|username|login|usr|utilizador|usuari|erabiltzailea)[ :=]{1,3}\S{2,40}[ ,;/|\-y]{1,6}(?:y |and |con |e )?(?:clave|contraseña|contrasena|password|pass|pwd|pw|pin|senha|contrasenya)[ :=]{1,3}(?:es |is )?[\"'«]?(?P<value>[^\s\"'»]{3,64})"
)
_USER_SLASH = re.compile(
    r"(?<![^\W_])(?:usuario|user|username|login|acceso|access|credenciales|credentials|supervisor|usuari|utilizador)\b[^\n:=]{0,24}[:=]\s{0,3}\S{2,40}\s{1,3}/\s{1,3}(?P<value>[^\s\"'»]{6,40})"
)
_PHRASE = re.compile(
    r"(?<![^\W_])(?:contraseña|passphrase|password|clave|frase de paso|contrasenya|senha|mot de passe)(?![^\W_])[^\n.\"«“]{0,40}?(?:[:=]|(?<![^\W_])(?:es|is|era|was|és|est|é)(?![^\W_]))\s{0,3}[\"«“](?P<value>[^\"»”\n]{6,60})[\"»”]"
)
_RECOVERY = re.compile(
    r"(?<![^\W_])(?:(?:recovery|backup|emergency|one-time) codes?|códigos? de (?:recuperación|respaldo|emergencia))(?![^\W_])[^\n]{0,30}?(?P<value>[a-z0-9]{3,6}-[a-z0-9]{3,6}|[0-9]{6,10})(?![^\W_])"
)


def find_secrets(scan: Scan) -> Iterator[Found]:
    """Everything that opens a door."""
    text, lower = scan.text, scan.lower
    yield from _tokens(text, lower)
    if "-----BEGIN" in text:
        for match in _PEM.finditer(text):
            yield found("PRIVATE_KEY", Kind.CREDENTIAL, match.span(), CERTAIN)
    if "://" in text:
        yield from _urls(text)
    if "authorization" in lower or "bearer" in lower:
        for match in _HEADER.finditer(text):
            value = match.group(1) or match.group(2)
            if _secret_value(value, 8, 2.5):
                yield found("AUTH_HEADER", Kind.CREDENTIAL, match.span(), CERTAIN)
    if any(gate in lower for gate in _ASSIGN_GATES) or " -u" in lower or "--user" in lower:
        yield from _assignments(scan)
    yield from _said(scan)


def _tokens(text: str, lower: str) -> Iterator[Found]:
    for match in _LONG.finditer(text):
        run = match.group()
        hit = _TOKEN.search(run)
        if hit:
            if not _all_alike(hit.group()):
                start = match.start() + hit.start()
                yield found("TOKEN", Kind.CREDENTIAL, (start, match.start() + hit.end()), CERTAIN)
        elif len(run) >= 24 and _random(run):
            if _KEY_WORDS.search(lower, max(0, match.start() - 40), match.start()):
                yield found("TOKEN", Kind.CREDENTIAL, match.span(), LIKELY)
            elif not _HASH_WORDS.search(lower, max(0, match.start() - 40), match.start()):
                yield found("TOKEN", Kind.CREDENTIAL, match.span(), WEAK)


_KEY_WORDS = words(
    "key",
    "clave",
    "token",
    "secret",
    "secreto",
    "llave",
    "clau",
    "chave",
    "clé",
    "gakoa",
    "api",
    "bearer",
    "credential",
    "credencial",
    "credenciales",
)
_HASH_WORDS = words(
    "sha",
    "sha1",
    "sha256",
    "md5",
    "hash",
    "commit",
    "checksum",
    "digest",
    "uuid",
    "guid",
    "job",
    "id",
    "revision",
    "etag",
    "integrity",
    "trace",
)


def _random(run: str) -> bool:
    """A long run of letters and digits that no one would write as words."""
    letters = sum(map(str.isalpha, run))
    digits = sum(map(str.isdigit, run))
    return (
        digits >= 4
        and letters >= 4
        and letters + digits >= len(run) - 2
        and _entropy(run) >= 3.3
        and not _UUID.fullmatch(run)
    )


_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def _all_alike(token: str) -> bool:
    """`sk-xxxxxxxx`, `ghp_000000`: a placeholder."""
    body = token[-16:]
    return len(set(body)) < 4 or "example" in token.lower() or "xxxx" in token.lower() or "1234567890" in token


def _urls(text: str) -> Iterator[Found]:
    for match in _URL_PASSWORD.finditer(text):
        if not _PLACEHOLDER.match(match.group(1)) and not match.group(1).isupper():
            yield found("CONNECTION_STRING", Kind.CREDENTIAL, match.span(), CERTAIN)
    for match in _WEBHOOK.finditer(text):
        yield found("WEBHOOK", Kind.CREDENTIAL, match.span(), CERTAIN)


def _assignments(scan: Scan) -> Iterator[Found]:
    for match in _OPERATOR.finditer(scan.text):
        name = _ASSIGN.search(scan.lower, max(0, match.start() - 72), match.start())
        if name is None:
            continue
        value = match.group(1)
        if _NOT_A_SECRET_NAME.search(name.group()) or (
            _UUID.fullmatch(value) and not _STRONG_NAME.search(name.group())
        ):
            continue
        if _secret_value(value, 8, _MIN_ENTROPY):
            long = len(value) >= 16 and any(map(str.isdigit, value))
            yield found("SECRET", Kind.CREDENTIAL, match.span(1), CERTAIN if long else LIKELY)
        elif _PASSWORD_NAME.search(name.group()) and (
            _password_value(value) or _environment(scan.text, match) or _quoted(scan.text, match)
        ):
            yield found("PASSWORD", Kind.CREDENTIAL, match.span(1), LIKELY)
    options = [pattern for sign, pattern in ((" -", _CURL_USER), ("-", _CLI_PASSWORD)) if sign in scan.text]
    for pattern in options:
        for match in pattern.finditer(scan.text):
            if not _PLACEHOLDER.match(match.group(1)) and not _CODE_VALUE.match(match.group(1)):
                yield found("PASSWORD", Kind.CREDENTIAL, match.span(1), LIKELY)


_NOT_A_SECRET_NAME = re.compile(
    r"(?:names?|ids?|files?|paths?|urls?|uris?|types?|size|length|expir\w*|results|ttl|algorithm|policy|rotation|store|vault\w*)[\"'\] ]{0,4}$|public|author|keyword"
)
_STRONG_NAME = re.compile(r"api|secret|token|passw|pwd|clave|auth|credential|access|private")
_PASSWORD_NAME = re.compile(r"passw|pwd|clave|contrase|passphrase")


def _quoted(text: str, match: re.Match[str]) -> bool:
    """`password = "Salt(9)Marsh"`: between quotes it is no call, whatever signs it has."""
    start = match.start(1)
    end = text.find(text[start - 1], start, start + 64) if text[start - 1] in "\"'" else -1
    value = text[start:end]
    if end < start + 6 or any(map(str.isspace, value)) or _PLACEHOLDER.match(value):
        return False
    return any(map(str.isdigit, value)) and any(map(str.isalpha, value))


def _environment(text: str, match: re.Match[str]) -> bool:
    """`DB_PASSWORD=DGlfoZBPry`: whatever stands there is the password."""
    value = match.group(1)
    return (
        text[match.start() - 1 : match.start()].isupper()
        and text[match.start()] == "="
        and len(value) >= 6
        and not _PLACEHOLDER.match(value)
    )


_SEQUENCE = re.compile(r"abcdefgh|12345678|98765432|(.)\1{5}", re.IGNORECASE)


def _secret_value(value: str, least: int, entropy: float) -> bool:
    value = value.strip("\\\"'")
    if (
        len(value) < least
        or _SEQUENCE.search(value)
        or _PLACEHOLDER.match(value)
        or _CODE_VALUE.match(value)
        or _FILE_VALUE.match(value)
    ):
        return False
    return any(map(str.isdigit, value)) and _entropy(value) >= entropy


def _password_value(value: str) -> bool:
    """Something a person would type as a password: not a word of prose, not a piece of code."""
    value = value.rstrip(".,;:!?)")
    if len(value) < 4 or _PLACEHOLDER.match(value) or _CODE_VALUE.match(value) or _FILE_VALUE.match(value):
        return False
    digit = any(map(str.isdigit, value))
    letter = any(map(str.isalpha, value))
    sign = any(not c.isalnum() for c in value)
    return (letter and (digit or sign) and value.count("(") == 0) or (digit and len(value) >= 6 and not sign)


def _entropy(value: str) -> float:
    total = len(value)
    return -sum(n / total * math.log2(n / total) for n in Counter(value).values())


def _said(scan: Scan) -> Iterator[Found]:
    for low, high in scan.around(_SAID_WORDS, 90, 300):
        for pattern in (_USER_AND, _SAID, _SAID_DIRECT):
            for match in pattern.finditer(scan.lower, low, high):
                word = match.group("word") if pattern is not _USER_AND else "password"
                start, end = match.span("value")
                item = _said_value(scan, word, start, end)
                if item:
                    yield item
        for match in _BEFORE_CODE.finditer(scan.lower, low, high):
            yield found("CODE", Kind.CREDENTIAL, match.span("value"), LIKELY)
        for match in _RECOVERY.finditer(scan.lower, low, high):
            yield found("CODE", Kind.CREDENTIAL, match.span("value"), LIKELY)
        for match in _PHRASE.finditer(scan.lower, low, high):
            yield found("PASSWORD", Kind.CREDENTIAL, match.span("value"), SOFT)
    for low, high in scan.around(_USER_WORDS, 1, 120) if " / " in scan.text else ():
        for match in _USER_SLASH.finditer(scan.lower, low, high):
            value = scan.text[slice(*match.span("value"))].rstrip(".,;:!?)")
            if _password_value(value) or (_mixed_case(value.replace("-", "")) and any(map(str.isupper, value))):
                yield found("PASSWORD", Kind.CREDENTIAL, match.span("value"), LIKELY)


def _said_value(scan: Scan, word: str, start: int, end: int) -> Found | None:
    value = scan.text[start:end].rstrip(".,;:!?)")
    end = start + len(value)
    digits = "".join(filter(str.isdigit, value))
    if value.isdigit() or (word in _NUMBER_WORDS_ONLY and len(digits) >= 3 and len(digits) >= len(value) - 1):
        return _said_number(scan, word, start, end, digits)
    if word in _NUMBER_WORDS_ONLY and word not in {"passcode", "code", "código", "codigo", "token"}:
        return None
    if not (_password_value(value) or _mixed_case(value)) or value.lower().startswith(("http", "www.")):
        return None
    if word in _NUMBER_WORDS_ONLY:
        return None
    return found("PASSWORD", Kind.CREDENTIAL, (start, end), LIKELY)


def _mixed_case(value: str) -> bool:
    """`aHepghreNo`: a capital inside a word."""
    return len(value) >= 6 and value.isalnum() and not value.isupper() and value[1:] != value[1:].lower()


def _said_number(scan: Scan, word: str, start: int, end: int, digits: str) -> Found | None:
    more = re.compile(r"(?:[ \-][0-9]{1,4}){1,3}(?![\w])").match(scan.text, end)
    if more:
        end = more.end()
        digits += "".join(filter(str.isdigit, more.group()))
    if not 3 <= len(digits) <= 10:
        return None
    if scan.near(start, end, _NOT_A_CODE, 44):
        return None
    if word in _STRONG_NUMBER_WORDS or word not in _NUMBER_WORDS_ONLY:
        return found("CODE", Kind.CREDENTIAL, (start, end), LIKELY)
    context = scan.near(start, end, _CODE_CONTEXT, 60)
    return found("CODE", Kind.CREDENTIAL, (start, end), LIKELY if context else SOFT)

"""What a finding is in law: kinds of personal data, their class, and the article behind each.

Read by the privacy scan, by `explain`, by the audit report and by the docs; it decides nothing by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gateway.types import DataClass, Signals


class Kind(StrEnum):
    """A kind of sensitive data. A closed set: it labels findings, metrics and the audit."""

    IDENTITY = "identity"
    CONTACT = "contact"
    FINANCIAL = "financial"
    LOCATION = "location"
    DOB = "dob"
    ONLINE_ID = "online_id"
    MINORS = "minors"
    HEALTH = "health"
    SPECIAL_OTHER = "special_other"
    CRIMINAL = "criminal"
    CREDENTIAL = "credential"
    BUSINESS = "business"


@dataclass(frozen=True, slots=True)
class Ground:
    """Why a kind is protected. `floor` is the least class that it gives a text."""

    kind: Kind
    floor: DataClass
    article: str
    article_es: str
    en: str
    es: str


GROUNDS: dict[Kind, Ground] = {
    ground.kind: ground
    for ground in (
        Ground(
            Kind.IDENTITY,
            DataClass.PERSONAL,
            "GDPR art. 4(1), 87; LOPDGDD disp. ad. 7",
            "RGPD art. 4.1, 87; LOPDGDD disp. ad. 7.ª",
            "names, national identity and tax numbers, social security, passport, plates",
            "nombres, DNI, NIE, NIF, seguridad social, pasaporte, matrículas",
        ),
        Ground(
            Kind.CONTACT,
            DataClass.PERSONAL,
            "GDPR art. 4(1); LOPDGDD art. 19 where it is a business contact",
            "RGPD art. 4.1; LOPDGDD art. 19 si es un contacto profesional",
            "telephone numbers and e-mail addresses of a person",
            "teléfonos y correos de una persona",
        ),
        Ground(
            Kind.FINANCIAL,
            DataClass.PERSONAL,
            "GDPR art. 4(1); LOPDGDD art. 20",
            "RGPD art. 4.1; LOPDGDD art. 20",
            "accounts, cards, salary, debts",
            "cuentas, tarjetas, salario, deudas",
        ),
        Ground(
            Kind.LOCATION,
            DataClass.PERSONAL,
            "GDPR art. 4(1)",
            "RGPD art. 4.1",
            "where a person lives or is: addresses, coordinates, supply points (CUPS)",
            "dónde vive o está una persona: direcciones, coordenadas, puntos de suministro (CUPS)",
        ),
        Ground(
            Kind.DOB,
            DataClass.PERSONAL,
            "GDPR art. 4(1)",
            "RGPD art. 4.1",
            "date of birth",
            "fecha de nacimiento",
        ),
        Ground(
            Kind.ONLINE_ID,
            DataClass.PERSONAL,
            "GDPR art. 4(1), recital 30",
            "RGPD art. 4.1, cdo. 30",
            "IP and MAC addresses of a person, IMEI, SIM and device numbers",
            "direcciones IP y MAC de una persona, IMEI, números de SIM y de dispositivo",
        ),
        Ground(
            Kind.MINORS,
            DataClass.PERSONAL,
            "GDPR art. 8, recital 38; LOPDGDD art. 7, 84, 92",
            "RGPD art. 8, cdo. 38; LOPDGDD art. 7, 84, 92",
            "statements about a child",
            "afirmaciones sobre un menor",
        ),
        Ground(
            Kind.HEALTH,
            DataClass.SPECIAL,
            "GDPR art. 4(15), 9(1); LOPDGDD art. 9, disp. ad. 17",
            "RGPD art. 4.15, 9.1; LOPDGDD art. 9, disp. ad. 17.ª",
            "a person's illness, treatment, disability, health-card and record numbers",
            "enfermedad, tratamiento o discapacidad de una persona, tarjeta sanitaria, historia clínica",
        ),
        Ground(
            Kind.SPECIAL_OTHER,
            DataClass.SPECIAL,
            "GDPR art. 9(1); LOPDGDD art. 9",
            "RGPD art. 9.1; LOPDGDD art. 9",
            "religion, politics, union membership, sexual life, ethnic origin, genetic and biometric data",
            "religión, política, afiliación sindical, vida sexual, origen étnico, datos genéticos y biométricos",
        ),
        Ground(
            Kind.CRIMINAL,
            DataClass.SPECIAL,
            "GDPR art. 10; LOPDGDD art. 10, 27",
            "RGPD art. 10; LOPDGDD art. 10, 27",
            "a person's offences, convictions and proceedings",
            "infracciones, condenas y procesos de una persona",
        ),
        Ground(
            Kind.CREDENTIAL,
            DataClass.SECRET,
            "GDPR art. 32; ENS, RD 311/2022, op.acc",
            "RGPD art. 32; ENS, RD 311/2022, op.acc",
            "passwords, PINs, one-time codes, keys, tokens, connection strings",
            "contraseñas, PIN, códigos de un uso, claves, tokens, cadenas de conexión",
        ),
        Ground(
            Kind.BUSINESS,
            DataClass.INTERNAL,
            "none: business confidentiality (Ley 1/2019, art. 1)",
            "ninguno: secreto empresarial (Ley 1/2019, art. 1)",
            "order, contract, invoice and ticket numbers, company tax numbers",
            "números de pedido, contrato, factura e incidencia, NIF de empresa",
        ),
    )
}


def floor(kind: str) -> DataClass:
    """The least class of a text in which this kind was found; an unknown kind counts as personal."""
    ground = GROUNDS.get(Kind(kind)) if kind in _NAMES else None
    return ground.floor if ground else DataClass.PERSONAL


def found(signals: Signals) -> list[Kind]:
    """The kinds that were found in a request, by name; what its class does not rest on is left out."""
    names = set(signals.data_kinds)
    if signals.data > DataClass.PUBLIC:
        names |= {finding.kind for finding in signals.findings if finding.data >= DataClass.INTERNAL}
    return [Kind(name) for name in sorted(names & _NAMES)]


_NAMES = frozenset(kind.value for kind in Kind)

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli.explain import Explainer, command, explain_lines, parse_signals
from gateway.errors import BadRequest
from gateway.types import DataClass, Signals
from tests.policy.builders import DEFAULT_TEXT, a_policy, catalogue, with_rules


def classify(request: str | list[dict[str, object]]) -> Signals:
    if isinstance(request, list):
        return Signals(gain=0.9)
    if request == "unreadable":
        raise BadRequest("no")
    return Signals(data=DataClass.PERSONAL if "DNI" in request else DataClass.PUBLIC, stay_score=0.25)


EXPLAINER = Explainer(a_policy(), catalogue(), classify)


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    file = tmp_path / "default.yaml"
    file.write_text(DEFAULT_TEXT.replace("big: large", "big: cloud"))
    return file


def explain(*args: object) -> Result:
    return CliRunner().invoke(command, [str(arg) for arg in args])


def test_each_line_gives_its_id_signals_and_decision_in_order() -> None:
    lines = [
        b'{"id": 1, "text": "mi DNI"}\n',
        b"\n",
        b'{"id": "b", "messages": [{"role": "user", "content": "x"}]}\n',
        b'{"id": 3, "text": "", "model": "large"}',
    ]
    answers = list(explain_lines(lines, EXPLAINER))

    assert [answer["id"] for answer in answers] == [1, "b", 3]
    assert [answer["decision"]["rule"] for answer in answers] == ["personal-stays", "hard", "pinned"]
    assert answers[0]["signals"]["data"] == "personal"
    assert answers[0]["signals"]["stay_score"] == 0.25
    assert orjson.loads(orjson.dumps(answers)) == answers


@pytest.mark.parametrize(
    ("line", "identity", "code"),
    [
        (b"{nonsense", None, "invalid_json"),
        (b"\xff\xfe", None, "invalid_json"),
        (b"[1]", None, "invalid_request_error"),
        (b'{"id": 7}', 7, "invalid_request_error"),
        (b'{"id": 7, "text": 5}', 7, "invalid_request_error"),
        (b'{"id": 7, "text": "a", "messages": []}', 7, "invalid_request_error"),
        (b'{"id": 7, "messages": []}', 7, "invalid_request_error"),
        (b'{"id": 7, "text": "a", "model": "nope"}', 7, "model_not_found"),
        (b'{"id": 7, "text": "unreadable"}', 7, "invalid_request_error"),
    ],
)
def test_a_bad_line_is_answered_and_the_next_one_goes_on(line: bytes, identity: object, code: str) -> None:
    bad, good = explain_lines([line, b'{"id": 8, "text": "ok"}'], EXPLAINER)
    assert bad["id"] == identity
    assert bad["error"]["code"] == code
    assert good["decision"]["rule"] == "default"


def test_signals_can_be_explained_without_a_text(policy: Path) -> None:
    result = explain("--policy", policy, "--signals", '{"gain": 0.5}', "--json")
    told = orjson.loads(result.output)
    assert result.exit_code == 0, result.output
    assert told["decision"]["rule"] == "hard"
    assert [item["matched"] for item in told["tried"]] == [False, True]
    assert told["signals"]["gain"] == 0.5
    assert {entry["model"] for entry in told["cost"]} == set(told["decision"]["ladder"])


def test_a_counter_example_of_check_is_run_as_it_stands() -> None:
    signals, requested = parse_signals(
        '{"data":"personal","gain":0.35,"requested":"gpt","rule":"hard","route":"cloud","model":"m","zone":"world"}'
    )
    assert signals == Signals(data=DataClass.PERSONAL, gain=0.35)
    assert requested == "gpt"


@pytest.mark.parametrize(
    ("language", "article"),
    [("es", "RGPD art. 4.15, 9.1; LOPDGDD art. 9"), ("en", "GDPR art. 4(15), 9(1); LOPDGDD art. 9")],
)
def test_each_kind_that_was_found_comes_with_its_article(policy: Path, language: str, article: str) -> None:
    asked = ("--policy", policy, "--signals", "{data: special, data_kinds: [health, identity]}", "--lang", language)
    kinds = orjson.loads(explain(*asked, "--json").output)["kinds"]
    assert [kind["kind"] for kind in kinds] == ["health", "identity"]
    assert kinds[0]["article"].startswith(article)
    assert article in " ".join(explain(*asked).output.split())


@pytest.mark.parametrize(("language", "words"), [("es", "la regla pide"), ("en", "the rule asks for")])
def test_the_explanation_is_in_the_language_asked_for(policy: Path, language: str, words: str) -> None:
    result = explain("--policy", policy, "--signals", "{}", "--lang", language)
    assert result.exit_code == 0, result.output
    assert words in result.output


@pytest.mark.parametrize(
    ("language", "words"),
    [
        (
            "en",
            [
                "Route: cloud (rule r, canary)",
                "After the reply, a copy goes to: nominal-slm",
                "moved here by an earlier",
            ],
        ),
        (
            "es",
            ["Ruta: cloud (regla r, canario)", "Tras la respuesta, una copia va a: nominal-slm", "Un turno anterior"],
        ),
    ],
)
def test_what_follows_a_conversation_is_told(tmp_path: Path, language: str, words: list[str]) -> None:
    file = tmp_path / "p.yaml"
    rule = "{name: r, when: {}, use: local, canary: {cloud: 60%}, shadow: {to: slm, share: 60%}, sticky: conversation}"
    file.write_text(with_rules(rule))
    given = "{draw: 0.5, held_by: r, rule: r, shadow: slm, model: nominal-slm, zone: premises}"
    output = explain("--signals", given, "--policy", file, "--lang", language).output
    assert [word for word in words if word not in output] == []


def test_prices_that_are_configured_are_shown(policy: Path, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text("gpt: {prompt: 2.0, completion: 8.0, from: 2026-01-01, source: contract}\n")
    config = tmp_path / "cauce.yaml"
    config.write_text(
        f"models:\n  gpt: {{provider: openai, model: m, zone: world, kind: llm}}\nprices: {tmp_path / 'prices.yaml'}\n"
    )
    result = explain("--policy", policy, "--config", config, "--signals", "{prompt_tokens: 1000}", "--json")
    assert orjson.loads(result.output)["cost"] == [
        {
            "model": "gpt",
            "source": "contract",
            "prompt_nano_usd": 2_000_000,
            "completion_nano_usd_per_1000_tokens": 8_000_000,
        }
    ]


@pytest.mark.parametrize("args", [[], ["text", "--jsonl"], ["text", "--signals", "{}"]])
def test_exactly_one_kind_of_request_is_taken(args: list[str]) -> None:
    assert explain(*args).exit_code == 2


def test_wrong_signals_are_wrong_use(policy: Path) -> None:
    result = explain("--policy", policy, "--signals", "{gian: 1}")
    assert result.exit_code == 2
    assert "Did you mean 'gain'" in result.output


@pytest.mark.parametrize(("language", "words"), [("es", "Del modelo grande se espera"), ("en", "The large model is")])
def test_a_text_comes_with_the_reason_for_its_scores(policy: Path, language: str, words: str) -> None:
    text = "Demuestra que la raíz de dos es irracional."
    result = explain("--policy", policy, text, "--lang", language, "--json")
    assert result.exit_code == 0, result.output
    told = orjson.loads(result.output)
    assert told["why"]["sentence"].startswith(words)
    assert told["why"]["gain"] == pytest.approx(told["signals"]["gain"])
    assert set(told["why"]["words"]) >= {"demuestra", "raíz", "irracional"}


def test_signals_alone_have_no_reason(policy: Path) -> None:
    assert orjson.loads(explain("--policy", policy, "--signals", "{gain: 0.5}", "--json").output)["why"] is None

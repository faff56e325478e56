"""How long policies take: `python -m tests.policy.measure`. Prints figures; holds nothing against a clock."""

from __future__ import annotations

import random
import time
import timeit
from collections.abc import Callable
from functools import partial

from gateway.cli.explain import Explainer, explain_lines
from gateway.policy.check import prove
from gateway.policy.decide import decide
from gateway.policy.rules import AllOf, Compare, Condition
from gateway.types import DataClass, Guarantee, Signals, Zone

from .builders import a_policy, catalogue, loaded, with_rules
from .test_check import BOTH, policy_of, tiles

_PERSONAL = (Guarantee(DataClass.PERSONAL, Zone.PREMISES),)


def main() -> None:
    """Print each figure with what it is of."""
    _decisions()
    for rules in (50, 200):
        text = _windows(rules)
        _say(f"load {rules} rules of four windows", partial(loaded, text))
        _say(f"prove {rules} rules of four windows", partial(prove, loaded(text)))
        sound = _windows(rules).replace("p, when: {data: '>= personal'}", "p, when: {data: '>= internal'}")
        text = _conversations(sound)
        _say(f"load {rules} rules, each with canary, shadow and sticky, half in overlays", partial(loaded, text))
        _say(f"prove {rules} such rules", partial(prove, loaded(text)))
        broken = loaded(text.replace("internal'}", "secret'}"))
        _say(f"prove {rules} such rules that break every guarantee", partial(prove, broken))
        boxes = [*tiles(rules), AllOf()]
        _say(
            f"prove {rules} tiles that cover four axes",
            partial(prove, policy_of(boxes, [BOTH] * len(boxes), _PERSONAL)),
        )
        corners = _corners(rules)
        _say(
            f"prove {rules} corners on four axes", partial(prove, policy_of(corners, [BOTH] * len(corners), _PERSONAL))
        )


def _say(what: str, run: Callable[[], object]) -> None:
    start = time.perf_counter()
    run()
    print(f"{what}: {time.perf_counter() - start:.3f} s")


def _decisions() -> None:
    lines = (
        f"{{name: r{n}, when: {{gain: '>= {0.4 + n / 100:.2f}', slm_success: '< {0.5 - n / 200:.3f}', "
        f"task: [faq, classify], prompt_tokens: '> {8000 - n}'}}, use: cloud}}"
        for n in range(50)
    )
    policy, models = a_policy(with_rules("\n".join(lines))), catalogue()
    unlucky = Signals(
        gain=0.95, slm_success=0.1, task="faq", prompt_tokens=100
    )  # every rule fails at its last condition
    for what, signals in (("plain", Signals()), ("unlucky", unlucky)):
        seconds = timeit.timeit(partial(decide, signals, policy=policy, models=models), number=20_000) / 20_000
        print(f"decide, 50 rules of four conditions, {what} request: {seconds * 1e6:.1f} us")
    explainer = Explainer(policy, models, lambda _request: unlucky)
    raw = [b'{"id": 1, "text": "What are your opening hours on Saturday?"}'] * 20_000
    start = time.perf_counter()
    count = sum(1 for _ in explain_lines(raw, explainer))
    print(f"explain --jsonl without the models: {count / (time.perf_counter() - start):,.0f} lines/s")


def _windows(count: int) -> str:
    chance = random.Random(3)
    lines = ["{name: p, when: {data: '>= personal'}, use: local}"]
    for n in range(count):
        low, high = zip(*(sorted(chance.sample(range(1, 1000), 2)) for _ in range(4)), strict=True)
        when = ", ".join(
            f"{name}: '>= {a / scale:g}, < {b / scale:g}'"
            for name, a, b, scale in zip(
                ("gain", "slm_success", "stay_score", "prompt_tokens"), low, high, (1000, 1000, 1000, 1), strict=True
            )
        )
        lines.append(f"{{name: r{n}, when: {{{when}, task: [faq, code]}}, use: cloud}}")
    return with_rules("\n".join(lines))


def _conversations(text: str) -> str:
    """The same rules with all that follows a conversation, every second one for a team of its own."""
    head, _, rest = text.partition("rules:\n")
    *lines, default = rest.rstrip().splitlines()
    more = ", canary: {local: 5%}, shadow: {to: llm, share: 2%}"
    own = [line if "name: p," in line else f"{line[:-1]}{more}}}" for line in lines[::2]]
    overlays = [
        f"  - {{for: {{team: t{number}}}, guarantees: [{{data: internal, stays: premises}}], default: local, rules: ["
        f"{line[4:-1].replace('task:', 'data: public, task:')}{more}, sticky: none}}]}}"
        for number, line in enumerate(lines[1::2])
    ]
    return "\n".join([f"{head}sticky: conversation", "overlays:", *overlays, "rules:", *own, default])


def _corners(count: int) -> list[Condition]:
    chance = random.Random(5)
    return [
        AllOf(
            (
                Compare("gain", ">=", n / count),
                Compare("slm_success", "<", round(chance.random(), 4)),
                Compare("stay_score", ">=", round(chance.random(), 4)),
                Compare("prompt_tokens", "<", chance.randrange(1, 20_000)),
            )
        )
        for n in range(count)
    ]


if __name__ == "__main__":
    main()

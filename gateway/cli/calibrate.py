"""`cauce router calibrate`: fit the router to the small model that is deployed, and choose thresholds for a goal."""

from __future__ import annotations

import dataclasses
import difflib
import re
import time
from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.bars import Bars
from gateway.errors import ConfigError
from gateway.settings import Settings, load_settings
from gateway.types import Part

if TYPE_CHECKING:
    from router_models.calibrate import Chosen, Compared, Goal, Outcome, Point
    from router_models.calibration import Calibration
    from router_models.evaluate import Interval

LEDGER = "ledger"
_MONTH_DAYS = 30
_SHOWN = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # shares of large calls in the printed curve


class _Percent(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """`30%` as 0.3."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", str(value))
        if match is None or not 0 <= float(match[1]) <= 100:
            self.fail(f"{value!r} is no percentage: write 30%, say", param, ctx)
        return float(match[1]) / 100


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The goal, and what a budget is counted by."""

    share: float | None
    loss: float | None
    budget: float | None
    requests: float | None
    call_usd: float | None

    def __post_init__(self) -> None:
        if sum(one is not None for one in (self.share, self.loss, self.budget)) != 1:
            raise click.UsageError("name one goal: --max-llm-share 30%, --max-quality-loss 2% or --monthly-budget 500")


@click.command()
@click.option(
    "--outcomes",
    required=True,
    help='JSON lines of {"text" or "messages", "language"?, "slm": 0 to 1, "llm": 0 to 1}, or the word `ledger`: what '
    "callers said through /v1/feedback.",
)
@click.option("--slm", required=True, help="The small model whose outcomes they are: its name in cauce.yaml.")
@click.option("--max-llm-share", "share", type=_Percent(), help="Goal: at most this share of calls to the large model.")
@click.option("--max-quality-loss", "loss", type=_Percent(), help="Goal: at most this much less than the large alone.")
@click.option("--monthly-budget", "budget", type=click.FloatRange(0), help="Goal: at most so many USD a month.")
@click.option("--requests-per-month", "requests", type=click.FloatRange(1), help="For a budget; none: the ledger's.")
@click.option("--usd-per-large-call", "call_usd", type=click.FloatRange(0, min_open=True), help="As above.")
@click.option("--since", default="90d", show_default=True, help="How much of the ledger to read, e.g. 30d.")
@click.option("--policy", "policy_file", type=click.Path(path_type=Path), help="Policy to patch; none: the configured.")
@click.option("--rule", help="The rule whose threshold on the gain is chosen; none: the only one that has one.")
@click.option(
    "--calibration",
    "file",
    type=click.Path(path_type=Path),
    help="File to write; none: the configured, else calibration.json.",
)
@click.option(
    "--policy-out",
    type=click.Path(path_type=Path),
    help="The new policy; none: NAME-calibrated.yaml beside the old one.",
)
@click.option("--write", is_flag=True, help="Replace files that exist.")
@click.option("--plot", type=click.Path(path_type=Path), help="PNG of the curve (needs the extra `plot`).")
@click.option(
    "--head/--no-head", "with_head", default=None, help="Fit an in-domain head too; none: where it proves itself."
)
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml to use.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def command(  # noqa: PLR0913, PLR0917 - one parameter an option
    outcomes: str,
    slm: str,
    share: float | None,
    loss: float | None,
    budget: float | None,
    requests: float | None,
    call_usd: float | None,
    since: str,
    policy_file: Path | None,
    rule: str | None,
    file: Path | None,
    policy_out: Path | None,
    write: bool,
    plot: Path | None,
    with_head: bool | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Fit the router to the small model that is deployed, and choose the policy's threshold on the gain for a goal.

    Writes the calibration (name it in cauce.yaml: `calibration: FILE`) and a new policy beside the old one; what exists
    is replaced with --write only. Thresholds keep their goal with 95 % confidence.
    """
    from router_models import calibrate, calibration  # noqa: PLC0415 - --help needs none of this

    asked = Asked(share, loss, budget, requests, call_usd)
    settings = load_settings(config)
    _refuse_stranger(slm, settings)
    if plot is not None:
        _refuse_without_matplotlib()
    where = _Files.of(settings, policy_file, file, policy_out, write=write)
    with Bars() as bars:
        if outcomes == LEDGER:
            found, before = _of_ledger(settings, slm, since, where.calibration)
        else:
            found, before = list(_of_file(Path(outcomes), bars)), None
        _refuse_few(found, slm, outcomes)
        bars.begins("fitting, each fold without itself", 3)
        compared = calibrate.compared(found, slm, with_head=with_head)
        bars.step()
        made = calibrate.fit(found, slm, with_head=with_head)
        bars.step()
        columns = calibrate.Columns.of(found)
        goal, said_goal = _goal(asked, settings, since)
        if goal.kind == "loss" and columns.paired.sum() < calibrate.FEWEST:
            raise ConfigError(
                f"--max-quality-loss needs queries that both models answered, at least {calibrate.FEWEST} with `slm` "
                f"and `llm`, and there are {int(columns.paired.sum())}. Ask both, or name a share or a budget",
                where=outcomes,
            )
        points = calibrate.curve(compared.gains, columns.slm, columns.llm)
        chosen = calibrate.thresholds(compared.gains, columns.slm, columns.llm, [one.language for one in found], goal)
        bars.step()
    if before is not None:  # the ledger's scores were already those of an earlier calibration
        made = dataclasses.replace(
            made,
            slm_success=made.slm_success.after(before.slm_success),
            gain=made.gain.after(before.gain),
            head=before.head,
        )
    text, named, diff = where.patched(chosen, rule)
    refused = where.refusals(text, settings)
    entries = calibration.read(where.calibration) if where.calibration.exists() else {}
    calibration.write(where.calibration, {**entries, slm: made})
    where.policy_out.write_text(text, encoding="utf-8")
    if plot is not None:
        _plot(plot, points, chosen, said_goal)
    told = {
        "slm": slm,
        "outcomes": made.outcomes,
        "goal": said_goal,
        "calibration": _entry_values(made),
        "before": dataclasses.asdict(compared.before),
        "after": dataclasses.asdict(compared.after),
        "rule": named,
        "thresholds": [dataclasses.asdict(one) for one in chosen],
        "curve": [dataclasses.asdict(point) for point in points],
        "diff": diff,
        "refused": refused,
        "files": [str(where.calibration), str(where.policy_out), *([str(plot)] if plot else [])],
    }
    if as_json:
        click.echo(orjson.dumps(told))
    else:
        _show(told, compared, chosen, points, settings)


# ---- what is asked ---------------------------------------------------------------------------------------------------


def _refuse_stranger(slm: str, settings: Settings) -> None:
    small = [model.id for model in settings.catalogue() if model.kind == "slm"]
    if small and slm not in small:
        raise click.BadParameter(
            f"{slm!r} is not one of the small models of cauce.yaml: {', '.join(small)}", param_hint="--slm"
        )


def _refuse_few(found: Sequence[Outcome], slm: str, outcomes: str) -> None:
    from router_models.calibrate import FEWEST  # noqa: PLC0415

    small = sum(one.slm is not None for one in found)
    if small < FEWEST:
        raise ConfigError(
            f"holds {small} outcomes of {slm!r}, and fewer than {FEWEST} say nothing: 100 to 300 are a good number",
            where=outcomes,
        )


def _refuse_without_matplotlib() -> None:
    import importlib.util  # noqa: PLC0415 - only here

    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("--plot draws with matplotlib, which is not installed: pip install 'cauce[plot]'")


def _goal(asked: Asked, settings: Settings, since: str) -> tuple[Goal, str]:
    """The goal as a share or a loss, and in words."""
    from router_models.calibrate import Goal  # noqa: PLC0415

    if asked.share is not None:
        return Goal("share", asked.share), f"at most {asked.share:.1%} of the calls to the large model"
    if asked.loss is not None:
        return Goal("loss", asked.loss), f"at most {asked.loss:.1%} less quality than the large model alone"
    requests, usd = asked.requests, asked.call_usd
    if requests is None or usd is None:
        seen_requests, seen_usd = _spent(settings, since)
        requests, usd = requests or seen_requests, usd or seen_usd
    if not requests or not usd:
        raise click.UsageError(
            "--monthly-budget: the ledger does not say how many requests a month there are, or what a large call "
            "costs: add --requests-per-month and --usd-per-large-call"
        )
    budget = asked.budget or 0.0
    share = min(budget / (requests * usd), 1.0)
    words = (
        f"at most {budget:g} USD a month: {requests:,.0f} requests, {usd:.6g} USD a large call, so {share:.1%} of them"
    )
    return Goal("share", share), words


def _spent(settings: Settings, since: str) -> tuple[float, float]:
    """Requests a month and the mean cost of a large model's call, as the ledger has them; 0 where it has none."""
    from gateway.ledger.feedback import large_calls  # noqa: PLC0415 - --help needs none of this
    from gateway.ledger.replay import open_history  # noqa: PLC0415

    period = _period(since)
    requests, usd, days = large_calls(open_history(settings.ledger), period)
    return (requests / days * _MONTH_DAYS if days else 0.0), usd


def _period(since: str) -> Any:
    from gateway.ledger.report import Period  # noqa: PLC0415 - --help needs none of this

    match = re.fullmatch(r"(\d+)([hdw])", since)
    if match is None:
        raise click.BadParameter(f"{since!r}: write 24h, 30d or 8w", param_hint="--since")
    seconds = int(match[1]) * {"h": 3600, "d": 86_400, "w": 604_800}[match[2]]
    return Period(int((time.time() - seconds) * 1e6))


# ---- outcomes --------------------------------------------------------------------------------------------------------


def _of_file(file: Path, bars: Bars) -> Iterator[Outcome]:
    """The outcomes of a JSONL, scored; raises `ConfigError` with the line that is wrong."""
    from gateway.reading import ARTIFACTS  # noqa: PLC0415 - loads the models: --help needs none
    from gateway.signals.difficulty import DifficultyScorer, judged  # noqa: PLC0415
    from gateway.signals.language import detect  # noqa: PLC0415
    from router_models.calibrate import Outcome  # noqa: PLC0415

    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigError(
            f"cannot be read: {error.strerror}; name a file of JSON lines, or `ledger`", where=str(file)
        ) from error
    scorer = DifficultyScorer.load(ARTIFACTS)
    bars.begins("scoring the queries", len(lines))
    for number, line in enumerate(lines, 1):
        if line.strip():
            row = _row(line, f"{file}:{number}")
            parts = _parts(row, f"{file}:{number}")
            language = row.get("language") or detect(parts[-1].text)
            yield Outcome(language, *scorer.read(judged(parts)), row.get("slm"), row.get("llm"))
        bars.step()


def _row(line: bytes, where: str) -> dict[str, Any]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"is not valid JSON: {error.msg}", where=where) from None
    if not isinstance(row, dict):
        raise ConfigError('a line is an object: {"text": "...", "slm": 0.8, "llm": 1}', where=where)
    for name in ("slm", "llm"):
        value = row.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1):
            raise ConfigError(f"{name}: {value!r} is no score from 0 to 1", where=where)
    if row.get("slm") is None and row.get("llm") is None:
        raise ConfigError("has neither `slm` nor `llm`: how well did a model answer, from 0 to 1?", where=where)
    if not isinstance(row.get("language", ""), str):
        raise ConfigError("language: a code such as es", where=where)
    return row


def _parts(row: dict[str, Any], where: str) -> list[Part]:
    """The query as the gateway would read it."""
    text, messages = row.get("text"), row.get("messages")
    if isinstance(text, str) and messages is None:
        return [Part("user", text)]
    if text is None and isinstance(messages, list) and messages:
        parts = [
            Part(str(one["role"]), one["content"])
            for one in messages
            if isinstance(one, dict) and "role" in one and isinstance(one.get("content"), str)
        ]
        if len(parts) == len(messages):
            return parts
    raise ConfigError("needs either `text`, or `messages` of {role, content} with texts", where=where)


def _of_ledger(settings: Settings, slm: str, since: str, file: Path) -> tuple[list[Outcome], Calibration | None]:
    """Outcomes of the ledger, and the calibration under which they were scored: those before it are left out."""
    from gateway.ledger.feedback import outcomes  # noqa: PLC0415 - --help needs none of this
    from gateway.ledger.replay import open_history  # noqa: PLC0415
    from router_models import calibration  # noqa: PLC0415
    from router_models.calibrate import Outcome, bare  # noqa: PLC0415

    before = calibration.read(file).get(slm) if settings.calibration and file.exists() else None
    period = _period(since)
    if before is not None:
        begun = int(file.stat().st_mtime * 1e6)
        period = dataclasses.replace(period, start_us=max(period.start_us, begun))
    rows = outcomes(open_history(settings.ledger), slm, period)
    return [Outcome(one.language, bare(one.slm_success, one.gain), None, one.slm, one.llm) for one in rows], before


# ---- files -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Files:
    """The policy that is patched, and the files that are written."""

    policy: Path
    policy_out: Path
    calibration: Path

    @classmethod
    def of(
        cls, settings: Settings, policy: Path | None, calibration: Path | None, out: Path | None, *, write: bool
    ) -> _Files:
        """Raises `ConfigError` when one of them exists and may not be replaced, before anything is worked out."""
        from gateway.cli.explain import policy_path  # noqa: PLC0415 - --help needs none of this
        from gateway.policy.load import SHIPPED  # noqa: PLC0415

        own = policy_path(policy, settings)
        folder = Path() if own.parent == SHIPPED and not Path("policies").is_dir() else own.parent
        new = out or folder / f"{own.stem}-calibrated.yaml"
        numbers = calibration or Path(settings.calibration or "calibration.json")
        for file in (new, numbers):
            if file.exists() and not write:
                raise ConfigError("exists already: --write replaces it, or name another file", where=str(file))
            if not file.parent.is_dir():
                raise ConfigError("its folder does not exist: make it, or name another file", where=str(file))
        return cls(own, new, numbers)

    def patched(self, chosen: Sequence[Chosen], rule: str | None) -> tuple[str, str, str]:
        """The new policy, the rule that changed, and the difference."""
        from gateway.policy.retune import retuned  # noqa: PLC0415 - --help needs none of this

        text = self.policy.read_text(encoding="utf-8-sig")
        values = {one.language: one.point.threshold for one in chosen if one.point is not None}
        new, name = retuned(text, values, file=str(self.policy), rule=rule)
        lines = difflib.unified_diff(
            text.splitlines(), new.splitlines(), str(self.policy), str(self.policy_out), lineterm="", n=1
        )
        return new, name, "\n".join(lines)

    def refusals(self, text: str, settings: Settings) -> list[str]:
        """What `cauce check` would refuse of the new policy, the old one's cases included."""
        from gateway.cli.check import classifiers  # noqa: PLC0415 - loads the models
        from gateway.policy.cases import cases_path, parse_cases, run_case  # noqa: PLC0415
        from gateway.policy.check import NOMINAL, prove  # noqa: PLC0415
        from gateway.policy.load import parse_policy  # noqa: PLC0415

        models = {model.id: model for model in settings.catalogue()} or NOMINAL
        loaded = parse_policy(text, name=self.policy_out.stem, file=str(self.policy_out), path=self.policy_out)
        if loaded.policy is None:
            return [str(problem) for problem in loaded.problems]
        found = [str(problem) for problem in prove(loaded, models).errors]
        beside = cases_path(self.policy)
        if beside.exists():
            cases = parse_cases(beside.read_text(encoding="utf-8"), loaded.policy, file=str(beside))
            classify = classifiers(settings)(loaded.policy)
            results = [run_case(one, policy=loaded.policy, models=models, classify=classify) for one in cases.cases]
            found += [
                f"{beside}:{one.case.line}: {one.case.note}: {one.failures[0]}" for one in results if one.failures
            ]
        return found


# ---- for people ------------------------------------------------------------------------------------------------------


def _show(
    told: dict[str, Any], compared: Compared, chosen: Sequence[Chosen], points: Sequence[Point], settings: Settings
) -> None:
    console, made = Console(), told["calibration"]
    click.echo(f"{told['slm']}: {told['outcomes']} outcomes")
    for name in ("slm_success", "gain"):
        click.echo(f"  {name}: offset {made[name]['offset']:+.3f}, slope {made[name]['slope']:.3f}")
    click.echo("  and a head of its own domain\n" if made["head"] else "  no head of its own domain\n")
    console.print(_comparison(compared), _curve(points))
    click.echo(f"Goal: {told['goal']}.")
    for one in chosen:
        if one.point is not None:
            who = (one.language or "all others") if len(chosen) > 1 else "all"
            click.echo(f"  {who} ({one.rows} outcomes): {_kept(one.point)}")
    click.echo(f"\n{told['diff'] or 'The threshold stays as it is.'}\n")
    for one in told["refused"]:
        click.echo(f"cauce check will say: {one}")
    policy = told["files"][1]
    click.echo(f"Written: {', '.join(told['files'])}. Put it in force: cauce policy apply {policy}")
    if not settings.calibration:
        click.echo(f"and add to cauce.yaml: calibration: {told['files'][0]}")


def _comparison(compared: Compared) -> Table:
    table = Table("on outcomes that it was not fitted on", "shipped", "calibrated", caption="95 %, bootstrap")
    before, after = compared.before, compared.after
    table.add_row("log loss of slm_success", _interval(before.log_loss), _interval(after.log_loss))
    table.add_row("calibration error of slm_success", _interval(before.error), _interval(after.error))
    table.add_row("APGR of gain", _interval(before.apgr), _interval(after.apgr))
    return table


def _curve(points: Sequence[Point]) -> Table:
    table = Table("gain >=", "large calls", "quality", "lost", "lost at most", caption="95 %, one-sided")
    for point in _spread(points):
        numbers = map(_number, (point.quality, point.loss, point.loss_bound))
        table.add_row(f"{point.threshold:.3f}", f"{point.share:.0%}", *numbers)
    return table


def _kept(point: Point) -> str:
    said = f"gain >= {point.threshold:g}: {point.share:.1%} large calls, at most {point.share_bound:.1%}"
    return said if isnan(point.loss) else f"{said}; {point.loss:.1%} lost, at most {point.loss_bound:.1%}"


def _spread(points: Sequence[Point]) -> list[Point]:
    """The points nearest to some shares."""
    nearest = [min(points, key=lambda point: abs(point.share - share)) for share in _SHOWN]
    return list(dict.fromkeys(sorted(nearest, key=lambda point: point.threshold)))


def _interval(one: Interval | None) -> str:
    return one.shown() if one is not None else "-"


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _entry_values(made: Calibration) -> dict[str, Any]:
    lines = {name: dataclasses.asdict(getattr(made, name)) for name in ("slm_success", "gain")}
    return {**lines, "head": made.head is not None, "outcomes": made.outcomes, "day": made.day}


def _plot(file: Path, points: Sequence[Point], chosen: Sequence[Chosen], title: str) -> None:
    """Quality against the share of large calls, with the thresholds that were chosen."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, axes = plt.subplots(figsize=(7, 4.5), dpi=130)
    axes.plot([100 * point.share for point in points], [point.quality for point in points], label="by gain")
    ends = sorted((points[0], points[-1]), key=lambda point: point.share)
    axes.plot(
        [100 * point.share for point in ends], [point.quality for point in ends], "--", color="grey", label="by chance"
    )
    for one in chosen:
        if one.point is not None:
            name = one.language or "all"
            axes.plot(
                [100 * one.point.share], [one.point.quality], "o", label=f"{name}: gain >= {one.point.threshold:g}"
            )
    axes.set_xlabel("calls to the large model, %")
    axes.set_ylabel("mean outcome")
    axes.set_title(title, fontsize=9)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file)
    plt.close(figure)

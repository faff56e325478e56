"""`cauce check`: a policy is proved before it goes live."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import click
import orjson

from gateway.policy.cases import Classify
from gateway.policy.check import Report, check_file
from gateway.policy.load import SHIPPED
from gateway.policy.problems import Problem
from gateway.policy.rules import Policy
from gateway.settings import Settings, load_settings

_ENDINGS = (".yaml", ".yml")


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Same as --format json.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "junit"]),
    default="text",
    show_default=True,
    help="For people, for tools, or for a CI server.",
)
@click.option("--config", type=click.Path(path_type=Path), help="cauce.yaml whose models to prove against.")
@click.pass_context
def command(ctx: click.Context, paths: tuple[Path, ...], as_json: bool, form: str, config: Path | None) -> None:
    """Check policy files, or folders of them: names, rules that never fire, proof of each guarantee, cases.

    Without PATHS: the policy of cauce.yaml, else policies/, else the shipped ones. Without models in cauce.yaml, the
    proof is for one small model on the premises and one large model in the world. Exit 1 when a policy is refused.
    """
    settings = load_settings(config)
    files = policy_files(paths or (_usual(settings),))
    models = {model.id: model for model in settings.catalogue()} or None
    classify = classifiers(settings)
    reports = [check_file(file, models=models, classify=classify) for file in files]
    reports = with_double_names(reports)
    if as_json or form == "json":
        click.echo(orjson.dumps({"files": [report.as_values() for report in reports]}, option=orjson.OPT_INDENT_2))
    elif form == "junit":
        click.echo(junit(reports))
    else:
        for report in reports:
            _say(report, nominal=models is None)
    ctx.exit(0 if all(report.ok for report in reports) else 1)


def classifiers(settings: Settings) -> Callable[[Policy], Classify]:
    """What classifies the texts of each policy's cases: one for all policies that treat the unreadable alike."""
    built: dict[object, Classify] = {}

    def classifier(policy: Policy) -> Classify:
        from gateway.reading import build_classifier  # noqa: PLC0415 - loads the models: only cases with a text pay for it

        kind = (policy.unreadable, policy.failure, policy.operating_point)
        if kind not in built:
            built[kind] = build_classifier(settings, policy)
        return built[kind]

    return classifier


def _usual(settings: Settings) -> Path:
    if settings.policy:
        if not Path(settings.policy).exists():
            raise click.UsageError(f"cauce.yaml names the policy {settings.policy}, which does not exist")
        return Path(settings.policy)
    here = Path("policies")
    return here if here.is_dir() else SHIPPED


def policy_files(paths: Iterable[Path]) -> list[Path]:
    """The policies among these paths: files as they are, and of each folder every policy in it.

    A cases file means its policy: `cauce check policies/*.yaml` checks each policy once.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            files += _inside(path)
        elif _is_cases(path):
            files.append(_policy_of(path))
        else:
            files.append(path)
    return list(dict.fromkeys(files))


def _inside(folder: Path) -> list[Path]:
    files = [
        child
        for child in sorted(folder.iterdir())
        if child.suffix in _ENDINGS and not _is_cases(child) and not child.name.startswith(".")
    ]
    if not files:
        raise click.UsageError(f"there is no policy (*.yaml) in the folder {folder}")
    return files


def _is_cases(path: Path) -> bool:
    return path.suffix in _ENDINGS and path.stem.endswith(".cases")


def _policy_of(cases: Path) -> Path:
    name = cases.stem.removesuffix(".cases")
    for ending in _ENDINGS:
        if (policy := cases.with_name(name + ending)).exists():
            return policy
    raise click.UsageError(f"{cases} holds cases, and there is no policy {name}.yaml beside it")


def with_double_names(reports: Sequence[Report]) -> list[Report]:
    """Two policies of one name in one folder (`a.yaml` and `a.yml`) cannot be told apart: both are refused."""
    first: dict[Path, str] = {}
    checked = []
    for report in reports:
        name = Path(report.path).with_suffix("")
        if name in first:
            message = f"has the name of {first[name]}: one folder holds one policy of a name"
            double = Problem(report.path, 1, 1, "duplicate_name", message)
            report = report.with_error(double)  # noqa: PLW2901 - the report with one error more
        first.setdefault(name, report.path)
        checked.append(report)
    return checked


def _say(report: Report, *, nominal: bool) -> None:
    for problem in report.errors:
        click.echo(
            f"{problem.file}:{problem.line}:{problem.column}: {click.style('error', fg='red')}: {problem.message}"
        )
    for problem in report.notes:
        click.echo(
            f"{problem.file}:{problem.line}:{problem.column}: {click.style('note', dim=True)}: {problem.message}"
        )
    for kept in report.guarantees:
        said = f"{kept.guarantee.data.label} data and above stays inside {kept.where}"
        if kept.counter_example is None:
            click.echo(f"{report.path}: proved: {said}")
            continue
        click.echo(f"{report.path}: broken: {said}. See it with:")
        click.echo(f"  cauce explain --policy {report.path} --signals '{orjson.dumps(kept.counter_example).decode()}'")
    failed = sum(bool(result.failures) for result in report.cases)
    passed = f", {len(report.cases) - failed} cases passed" if report.cases else ""
    cases = passed + (f", {failed} failed" if failed else "")
    verdict = click.style("good", fg="green") if report.ok else click.style("refused", fg="red")
    against = " (no models configured: proved for a small one on the premises and a large one in the world)"
    click.echo(f"{report.path}: {verdict}{cases}{against if nominal and (report.ok or report.guarantees) else ''}")


def junit(reports: Sequence[Report]) -> str:
    """The reports as JUnit XML: a suite a file, a test for its text, each guarantee and each case."""
    root = ET.Element("testsuites", name="cauce check")
    for report in reports:
        tests = list(_tests(report))
        failures = sum(bool(messages) for _, messages in tests)
        suite = ET.SubElement(root, "testsuite", name=report.path, tests=str(len(tests)), failures=str(failures))
        for name, messages in tests:
            test = ET.SubElement(suite, "testcase", classname=Path(report.path).stem, name=_printable(name))
            for message in messages:
                ET.SubElement(test, "failure", message=_printable(message))
    return ET.tostring(root, encoding="unicode", xml_declaration=True)


def _tests(report: Report) -> Iterable[tuple[str, list[str]]]:
    other = [str(problem) for problem in report.errors if problem.kind not in {"case", "guarantee"}]
    yield "names and rules", other
    broken = [str(problem) for problem in report.errors if problem.kind == "guarantee"]
    for kept in report.guarantees:
        said = f"the guarantee that {kept.guarantee.data.label} data stays inside {kept.where}: "
        messages = [] if kept.held else [message for message in broken if said in message]
        yield f"{kept.guarantee.data.label} stays inside {kept.where}", messages
    for result in report.cases:
        yield result.case.note, list(result.failures)


def _printable(text: str) -> str:
    """XML has no place for most control characters."""
    return "".join(char if char.isprintable() else " " for char in text)

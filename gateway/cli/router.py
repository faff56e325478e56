"""`cauce router`: train the router model again, measure it, fit it to the small model that is deployed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson
from rich.console import Console
from rich.table import Table

from gateway.cli.bars import Bars
from gateway.cli.calibrate import command as calibrate
from gateway.errors import ConfigError
from gateway.types import DataClass

if TYPE_CHECKING:
    from router_models.train.router_report import Choice, Figures

ROUTERS = ("ours", "length", "random", "tfidf", "litellm")
_NEEDS = {"tfidf": "sklearn", "litellm": "litellm"}
_NEEDS_TRAINING = "is not installed: `make router` installs what training needs and trains; see requirements/train.txt"


@click.group()
def command() -> None:
    """The router model: what predicts whether a small model will answer well."""


command.add_command(calibrate, "calibrate")


@command.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with route_train.jsonl.gz, or with a folder `routing` that holds it.",
)
@click.option("--queries", type=click.Path(path_type=Path), help="Folder with graded queries; none: the shipped one.")
@click.option("--out", type=click.Path(path_type=Path), help="Where to write the model; none: over the shipped one.")
def train(data: Path, queries: Path | None, out: Path | None) -> None:
    """Train the router model on measured outcomes and on graded queries. The same data gives the same bytes."""
    from router_models import manifest, router_runtime  # noqa: PLC0415 - --help needs none of this

    try:
        from router_models.train import router  # noqa: PLC0415 - as above, and torch is slow to import
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} {_NEEDS_TRAINING}") from error
    folder = out or manifest.FOLDER
    with Bars() as bars:
        if queries is None:
            router.train(data, folder, watcher=bars)
        else:  # the teacher learnt from the shipped queries: what it said belongs to them
            router.train(data, folder, queries=queries, meanings=None, watcher=bars)
    for name in router_runtime.FILES:
        click.echo(f"{folder / name} ({(folder / name).stat().st_size / 1e6:.1f} MB)")
    click.echo(f"{folder / 'manifest.json'} holds their hashes. Measure it: cauce router evaluate --data {data}")


@command.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder with route_train.jsonl.gz and the bench files, or with a folder `routing` that holds them.",
)
@click.option(
    "--router",
    "names",
    help=f"Routers to compare, separated by commas: {', '.join(ROUTERS)}; none: all that can run here.",
)
@click.option(
    "--scores",
    type=click.Path(path_type=Path),
    multiple=True,
    help='Another router\'s scores, JSON lines of {"text", "score"}; it is named by its file. More than once: several.',
)
@click.option("--queries", type=click.Path(path_type=Path), help="Folder with test-*.jsonl; none: the shipped one.")
@click.option("--use-cases", type=click.Path(path_type=Path), help="YAML list of {id, text, goes} to decide.")
@click.option(
    "--resamples", type=click.IntRange(1), default=200, show_default=True, help="Of the queries, for the intervals."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Tables for a page.")
@click.option("--card", type=click.Path(path_type=Path), help="Page to write the tables into, at `<!-- figures -->`.")
def evaluate(  # noqa: PLR0913, PLR0917 - one parameter an option
    data: Path,
    names: str | None,
    scores: tuple[Path, ...],
    queries: Path | None,
    use_cases: Path | None,
    resamples: int,
    as_json: bool,
    as_markdown: bool,
    card: Path | None,
) -> None:
    """Measure the router model beside chance, length, word n-grams and an oracle, on sets that it never saw.

    How much of the large model's gain it recovers and with how many calls; calibration; the same question in Spanish
    and English; task and domain; decisions under default.yaml when a query is typed otherwise; time and memory.
    """
    from router_models.train import page  # noqa: PLC0415 - --help needs none of this
    from router_models.train.router_report import markdown  # noqa: PLC0415

    figures = _measured(data, names, queries, use_cases, resamples, scores)
    if card is not None:
        page.write(card, "figures", markdown(figures))
    if as_json:
        click.echo(orjson.dumps(figures))
    elif as_markdown:
        click.echo(markdown(figures), nl=False)
    else:
        _print(figures)


def _measured(  # noqa: PLR0913, PLR0917 - one parameter an option
    data: Path,
    names: str | None,
    queries: Path | None,
    use_cases: Path | None,
    resamples: int,
    scores: Sequence[Path],
) -> Figures:
    from router_models import manifest  # noqa: PLC0415 - --help needs none of this
    from router_models.encoder import Encoder  # noqa: PLC0415
    from router_models.router_runtime import FILES, VERSION, RouterModel  # noqa: PLC0415
    from router_models.train.router_data import OWN_QUERIES, outcomes_folder  # noqa: PLC0415
    from router_models.train.router_evaluate import rankings, read_scores  # noqa: PLC0415
    from router_models.train.router_report import Evaluator, Sets  # noqa: PLC0415

    chosen = _routers(names)
    sets = Sets.read(data, queries or OWN_QUERIES, use_cases)
    artifacts = manifest.FOLDER
    manifest.verify(artifacts, FILES, version=VERSION)
    model = RouterModel.load(artifacts, Encoder.load(artifacts))
    with Bars() as bars:
        evaluator = Evaluator(
            model=model,
            hash_=manifest.sha256(artifacts / FILES[0])[:12],
            folder=artifacts,
            decide=_decider(),
            resamples=resamples,
            watcher=bars,
        )
        others = {file.stem: read_scores(file) for file in scores}
        return evaluator.figures(sets, {**rankings(model, outcomes_folder(data), chosen), **others})


def _routers(names: str | None) -> Sequence[str]:
    """The routers that were asked for, or all that can run here."""
    import importlib.util  # noqa: PLC0415 - only here

    there = {name for name in ROUTERS if name not in _NEEDS or importlib.util.find_spec(_NEEDS[name]) is not None}
    if names is None:
        return [name for name in ROUTERS if name in there]
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    if unknown := [name for name in chosen if name not in ROUTERS]:
        raise click.BadParameter(f"{unknown[0]!r} is not one of {', '.join(ROUTERS)}", param_hint="--router")
    if "tfidf" in chosen and "tfidf" not in there:
        raise ConfigError(f"--router tfidf: scikit-learn {_NEEDS_TRAINING}")
    if "litellm" in chosen and "litellm" not in there:
        raise ConfigError("--router litellm: litellm is not installed: pip install 'cauce[litellm]'")
    return chosen


def _decider() -> Callable[[str], Choice]:
    """What the default policy decides, with a small model on the premises and a large one in the world."""
    from gateway.policy.check import NOMINAL  # noqa: PLC0415
    from gateway.policy.decide import decide  # noqa: PLC0415
    from gateway.policy.load import SHIPPED, load_policy  # noqa: PLC0415
    from gateway.reading import build_classifier  # noqa: PLC0415 - loads the models: --help needs none
    from gateway.settings import Settings  # noqa: PLC0415
    from router_models.train.router_decisions import Routes  # noqa: PLC0415
    from router_models.train.router_report import Choice  # noqa: PLC0415

    policy = load_policy(SHIPPED / "default.yaml", models=NOMINAL)
    classify = build_classifier(Settings(), policy)

    def choose(text: str) -> Choice:
        signals = classify(text)
        decision = decide(signals, policy=policy, models=NOMINAL)
        public = decide(dataclasses.replace(signals, data=DataClass.PUBLIC), policy=policy, models=NOMINAL)
        routes = Routes(decision.route.name, public.route.name)
        return Choice(routes, [NOMINAL[name] for name in decision.ladder])

    return choose


def _print(figures: Figures) -> None:
    from router_models.train.router_report import sheets  # noqa: PLC0415 - --help needs none of this

    console = Console()
    for sheet in sheets(figures):
        table = Table(
            *sheet.header, title=sheet.title, caption=sheet.note, title_justify="left", caption_justify="left"
        )
        for row in sheet.rows:
            table.add_row(*(cell.replace("**", "") for cell in row))
        console.print(table, "")

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from gateway.errors import ConfigError
from gateway.ledger.entry import AttemptEntry, Entry
from gateway.ledger.replay import count, models_of, open_history, read_calls, read_past
from gateway.ledger.report import Period
from gateway.ledger.store import open_engine
from gateway.ledger.writer import Ledger
from gateway.types import Zone
from tests.builders import an_attempt_entry, an_entry

NOON_US = an_entry().time_us


def written(file: Path, *rows: tuple[Entry, list[AttemptEntry]]) -> Engine:
    async def run() -> None:
        ledger = Ledger(open_engine(f"sqlite:///{file}"), on_failure=lambda error: pytest.fail(str(error)))
        await asyncio.gather(*(ledger.append(entry, calls) for entry, calls in rows))
        ledger.close()

    asyncio.run(run())
    return open_history(f"sqlite:///{file}")


def rows(requests: int) -> list[tuple[Entry, list[AttemptEntry]]]:
    """Request n was asked before request n - 1 and has n calls."""
    return [
        (
            an_entry(f"req_{n}", time_us=NOON_US - n, signals='{"gain": 0.5}'),
            [an_attempt_entry(f"req_{n}", k, model=f"m{k}", started_us=NOON_US - n) for k in range(n)],
        )
        for n in range(requests)
    ]


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
def test_entries_come_whole_and_in_order_of_time_however_they_are_batched(tmp_path: Path, batch: int) -> None:
    engine = written(tmp_path / "cauce.db", *rows(5))
    batches = list(read_past(engine, Period(), batch=batch))
    assert all(len(part) <= batch for part in batches)
    pasts = [past for part in batches for past in part]
    assert [past.request_id for past in pasts] == ["req_4", "req_3", "req_2", "req_1", "req_0"]
    assert [[call.model for call in past.calls] for past in pasts][:2] == [["m0", "m1", "m2", "m3"], ["m0", "m1", "m2"]]
    assert pasts[0].signals == {"gain": 0.5}
    assert pasts[-1].calls == ()


def test_entries_of_one_moment_keep_their_own_calls(tmp_path: Path) -> None:
    together = [
        (an_entry(f"req_{n}"), [an_attempt_entry(f"req_{n}", k, model=f"m{n}{k}") for k in range(2)]) for n in range(3)
    ]
    (pasts,) = read_past(written(tmp_path / "cauce.db", *together), Period())
    assert [[call.model for call in past.calls] for past in pasts] == [["m00", "m01"], ["m10", "m11"], ["m20", "m21"]]


def test_only_a_periods_entries_and_calls_are_read(tmp_path: Path) -> None:
    engine = written(tmp_path / "cauce.db", *rows(4))
    period = Period(NOON_US - 2, NOON_US)
    assert [past.request_id for part in read_past(engine, period) for past in part] == ["req_2", "req_1"]
    assert count(engine, period) == 2
    assert sum(map(len, read_calls(engine, period))) == 3


def test_embeddings_have_no_ladder_to_decide_again(tmp_path: Path) -> None:
    engine = written(tmp_path / "cauce.db", (an_entry("req_1", endpoint="embeddings"), []), (an_entry("req_2"), []))
    assert [past.request_id for part in read_past(engine, Period()) for past in part] == ["req_2"]
    assert count(engine, Period()) == 1


@pytest.mark.parametrize("text", ["{}", "", "nonsense", "[1]"])
def test_signals_that_were_not_kept_are_none(tmp_path: Path, text: str) -> None:
    engine = written(tmp_path / "cauce.db", (an_entry(signals=text), []))
    ((past,),) = read_past(engine, Period())
    assert past.signals == {}


def test_the_models_of_a_ledger_are_those_that_were_called_the_nearest_first(tmp_path: Path) -> None:
    calls = [
        an_attempt_entry(number=0, model="gpt", upstream_model="gpt-4.1", provider="openai", zone="world", kind="llm"),
        an_attempt_entry(number=1),
    ]
    models = models_of(written(tmp_path / "cauce.db", (an_entry(), calls)), Period())
    assert list(models) == ["small", "gpt"]
    assert (models["gpt"].zone, models["gpt"].kind, models["gpt"].model) == (Zone.WORLD, "llm", "gpt-4.1")


def test_reading_changes_nothing_in_the_ledger(tmp_path: Path) -> None:
    file = tmp_path / "cauce.db"
    written(file, *rows(3)).dispose()
    before = file.read_bytes()
    engine = open_history(f"sqlite:///{file}")
    list(read_past(engine, Period()))
    engine.dispose()
    assert file.read_bytes() == before


def test_a_ledger_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no .*none\.db yet.*--against"):
        open_history(f"sqlite:///{tmp_path}/none.db")
    assert not (tmp_path / "none.db").exists()


def test_an_older_ledger_says_what_it_lacks_and_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "old.db"
    open_engine(f"sqlite:///{file}").dispose()
    older = create_engine(f"sqlite:///{file}")
    with older.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE entries DROP COLUMN signals")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0000'")
    older.dispose()
    with pytest.raises(ConfigError, match=r"older Cauce and has no columns signals in table entries.*cauce serve"):
        open_history(f"sqlite:///{file}")
    with older.connect() as connection:
        assert connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar() == "0000"


@pytest.mark.parametrize("url", ["nonsense", "sqlite:///{folder}/text.db", "sqlite://", "nobody://x"])
def test_what_is_no_ledger_is_said(tmp_path: Path, url: str) -> None:
    (tmp_path / "text.db").write_text("this is not a database" * 100)
    with pytest.raises(ConfigError, match=r"^ledger: "):
        open_history(url.format(folder=tmp_path))

"""The ledger's database: SQLite by default, Postgres by URL; the same code and tables for both."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, inspect, text
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from gateway.errors import ConfigError
from gateway.ledger.tables import HEAD, alembic_version, metadata

_WAL_WAITS_S = (0.02, 0.1, 0.5, 1.0)


def open_engine(url: str) -> Engine:
    """The database behind `ledger:` in cauce.yaml, its schema brought up to date; raises `ConfigError`."""
    try:
        engine = create_engine(driver_url(url), **_options(url))
    except (ArgumentError, ModuleNotFoundError) as error:
        hint = "pip install 'cauce[postgres]'" if isinstance(error, ModuleNotFoundError) else "sqlite:///cauce.db"
        raise ConfigError(
            f"ledger: {url.rsplit('@', maxsplit=1)[-1]!r} cannot be opened: {error}. Try {hint}"
        ) from error
    try:
        if engine.dialect.name == "sqlite":
            _prepare_sqlite(engine)
        migrate(engine)
    except (SQLAlchemyError, OSError) as error:
        raise ConfigError(f"ledger: {engine.url.render_as_string()} cannot be used: {error}") from error
    return engine


def driver_url(url: str) -> str:
    """The URL with the driver that the extra `postgres` installs, where it names none."""
    scheme, found, rest = url.partition("://")
    return f"postgresql+psycopg://{rest}" if found and scheme in {"postgresql", "postgres"} else url


def _options(url: str) -> dict[str, Any]:
    """A Postgres that is gone is noticed in seconds, and a connection that broke is not handed out."""
    if not url.startswith("postgres"):
        return {}
    waits = {"connect_timeout": 3, "tcp_user_timeout": 5_000, "options": "-c lock_timeout=5000"}
    return {"pool_pre_ping": True, "connect_args": waits}


def _prepare_sqlite(engine: Engine) -> None:
    if engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _pragmas(connection: sqlite3.Connection, _record: object) -> None:
        _use_wal(connection)
        for pragma in ("synchronous=NORMAL", "busy_timeout=5000"):
            connection.execute(f"PRAGMA {pragma}").close()


def _use_wal(connection: sqlite3.Connection) -> None:
    """WAL: readers never block the writer, and a commit needs no fsync to survive the death of the process."""
    for wait_s in _WAL_WAITS_S:
        try:
            connection.execute("PRAGMA journal_mode=WAL").close()
        except sqlite3.OperationalError:  # another process makes the same new file: here SQLite does not wait by itself
            time.sleep(wait_s)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL").close()


def migrate(engine: Engine) -> None:
    """Bring the schema to `HEAD`; does nothing, and loads nothing, when it is there already."""
    with engine.begin() as connection:
        if _is_at_head(connection):
            return
        if engine.dialect.name == "sqlite":
            # Python's driver opens no transaction for CREATE: without one, a process killed here leaves half a schema.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            if _is_at_head(connection):  # another process was faster
                return
        if inspect(connection).get_table_names():
            _upgrade(connection)
        else:
            _create(connection)


def _is_at_head(connection: Connection) -> bool:
    if not inspect(connection).has_table("alembic_version"):
        return False
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD


def _create(connection: Connection) -> None:
    """The newest schema from scratch, marked as alembic would mark it, without its import (10 MB, half a second)."""
    metadata.create_all(connection)
    alembic_version.create(connection)
    connection.execute(alembic_version.insert().values(version_num=HEAD))


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - only an old database needs it
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")

"""`python -m router_models.train --data FOLDER --out FOLDER [--only MODEL]`: what `make router` runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from router_models import manifest


def main() -> None:
    """Derive the language model, then train the router, the privacy model and the answer checker in turn."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, required=True, help="folder with routing/ and privacy/")
    arguments.add_argument("--out", type=Path, default=manifest.FOLDER)
    arguments.add_argument("--only", choices=("language", "router", "privacy", "checker"))
    chosen = arguments.parse_args()
    if chosen.only in (None, "language"):
        from router_models.train import language  # noqa: PLC0415 - needs no torch, as the others do

        language.derive(chosen.out)
    if chosen.only in (None, "router"):
        from router_models.train import router  # noqa: PLC0415 - torch is slow to import, and --help needs none

        router.train(chosen.data, chosen.out)
    if chosen.only in (None, "privacy"):
        from router_models.train import privacy  # noqa: PLC0415 - as above

        privacy.train(chosen.data, chosen.out)
    if chosen.only in (None, "checker"):
        from router_models.train import checker  # noqa: PLC0415 - as above

        checker.train(chosen.out)


if __name__ == "__main__":
    main()

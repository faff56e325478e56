"""Training of the router models: `python -m router_models.train --data FOLDER --out FOLDER`."""

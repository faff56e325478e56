"""The models that read a query: features, training, evaluation; `runtime` is all that the gateway imports."""

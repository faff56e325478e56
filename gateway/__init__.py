"""Cauce: a gateway that sends each query to the smallest model that will answer it well."""

__version__ = "0.1.0"

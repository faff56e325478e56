"""Adapters: one file a provider, all behind `base.Upstream`."""

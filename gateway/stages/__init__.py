"""The stages of a request: each a function from one type to one type."""

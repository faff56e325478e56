"""HTTP in, HTTP out: the shapes that clients speak."""

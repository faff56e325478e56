"""Answers kept for a while, inside the partition of their caller and data class."""

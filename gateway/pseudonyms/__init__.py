"""Placeholders that stand for personal values outside the zone where those may be, and the way back."""

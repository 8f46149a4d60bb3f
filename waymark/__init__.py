"""Waymark: raw customer events in, trusted journeys out."""

__version__ = "0.1.0"

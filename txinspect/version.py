"""The program's version, and the newest transformers that it was tested with."""

__version__ = "0.1.0"

NEWEST_TRANSFORMERS = "5.24"
"""As in pyproject.toml's range."""

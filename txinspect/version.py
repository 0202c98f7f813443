"""The program's version, and the newest transformers that it was tested with."""

__version__ = "0.1.0"

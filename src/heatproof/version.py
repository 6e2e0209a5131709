"""The version of heatproof."""

__version__ = "0.1.0"

"""The version of the client. pyproject.toml reads it from here."""

VERSION = "0.1.0"

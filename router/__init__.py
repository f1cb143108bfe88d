"""Turnout, a rollout router for model servers."""


def version() -> str:
    """Return the version of the installed distribution, which pyproject.toml alone states."""
    from importlib import metadata  # noqa: PLC0415 - nothing happens on import of this package

    return metadata.version("turnout")

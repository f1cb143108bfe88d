"""What every block of the file has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Block(BaseModel):
    """A block of the file. Texts never become numbers by themselves, and unknown fields are errors.

    Defaults stand as they would be written in the file and are read like it, so the JSON Schema and the
    reference show them that way.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_means_defaults(cls, data: object) -> object:
        """Let a block stand without content, as when all its lines are commented out."""
        return {} if data is None else data


def written(default: str, meaning: str) -> Any:  # noqa: ANN401 - declared as the number that the text becomes
    """Return a field of a quantity, with its default as it would stand in the file."""
    return Field(default, description=meaning)

"""A file that holds gates alone: the question of `turnout rejudge`, in the words and units of a rollout block."""

from pathlib import Path

from pydantic import Field, ValidationError

from router.core.rollout import Asked
from router.settings import checks
from router.settings.block import Block
from router.settings.document import read_document
from router.settings.findings import SettingsError, findings_of
from router.settings.rollout_blocks import GateBlock, Probability, RolloutBlock


class GatesBlock(Block):
    """What is asked: at least one gate, and how sure the answer must be."""

    gates: list[GateBlock] = Field(min_length=1, description="What is asked of the candidate.")
    alpha: Probability | None = Field(None, description="Chance that a good candidate is ever rolled back.")
    beta: Probability | None = Field(None, description="Chance that a bad one is ever promoted.")


def load_gates(path: Path) -> Asked:
    """Return the gates in the YAML file at `path`.

    Raises SettingsError with everything that is wrong, or plain ConfigError where the file cannot be read as YAML.
    """
    document = read_document(path)
    try:
        block = GatesBlock.model_validate(document.data)
    except ValidationError as error:
        findings = findings_of(error, GatesBlock)
    else:
        whole = RolloutBlock(candidate="candidate", policy="canary", gates=block.gates)
        findings = list(checks.rollout_fits(whole, ()))
        if not findings:
            return Asked(tuple(gate.value() for gate in block.gates), block.alpha, block.beta)
    lines = [(document.line(finding.at), finding) for finding in findings]
    raise SettingsError(str(path), [(f"line {line}" if line else "", finding) for line, finding in lines])

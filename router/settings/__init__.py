"""The configuration: one YAML file plus environment in, frozen values of `router.core.config` out.

Units are converted and bounds checked here and nowhere else; everything that is wrong is reported at once.
"""

from router.settings.findings import SettingsError
from router.settings.gates_file import load_gates
from router.settings.identity import block_hash
from router.settings.loading import load, rollout_from_json
from router.settings.root import json_schema
from router.settings.webhook_secret import webhook_secret

__all__ = ["SettingsError", "block_hash", "json_schema", "load", "load_gates", "rollout_from_json", "webhook_secret"]

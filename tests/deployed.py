"""What the tests of deploy/ share: where it is, and which settings may stand in its files."""

import re
from collections.abc import Mapping
from pathlib import Path

from worker.settings import Settings
from worker.settings_sources import SECRETS

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"

FIELDS = {f"RENEWD_{name.upper()}" for name in Settings.model_fields}
FILES = {f"RENEWD_{name.upper()}_FILE" for name in SECRETS}


def is_setting(variable: str) -> bool:
    """Whether renewd would take this variable."""
    return variable in FIELDS | FILES


def unsafe_settings(variables: Mapping[str, str]) -> list[str]:
    """Variables that are no setting, or that hold a secret where a file should."""
    held = {f"RENEWD_{name.upper()}" for name in SECRETS}
    wrong = [name for name in variables if name.startswith("RENEWD_") and not is_setting(name)]
    wrong += [name for name in variables if name in held]
    return wrong + [
        name for name, value in variables.items() if re.search(r"://[^/]*:[^/]*@", value)
    ]

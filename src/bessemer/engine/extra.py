"""The extra `local`: what the built-in engine and tuning run on. The gateway and the planner do without."""

from importlib.util import find_spec
from typing import Final

from bessemer.core.errors import ProviderError

PACKAGES: Final = ("torch", "transformers", "safetensors", "gguf", "llguidance")
"""What pyproject.toml lists under `local`, by the names that are imported."""


def installed() -> bool:
    """Return whether the built-in engine can run here; imports none of it."""
    return all(find_spec(name) is not None for name in PACKAGES)


def check_installed() -> None:
    """Raise ProviderError (another target may help) when the built-in engine cannot run here."""
    if not installed():
        raise ProviderError(
            "Local models need the built-in engine, which is not installed here: pip install 'bessemer[local]'.",
            code="engine_not_installed",
        )

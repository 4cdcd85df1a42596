"""The table of model families: one line each. `register` adds one from outside the package."""

from bessemer.core.errors import EngineError
from bessemer.engine.families.gemma3 import GEMMA3
from bessemer.engine.families.llama import LLAMA
from bessemer.engine.family import Family

_TABLE: list[Family] = [
    LLAMA,
    GEMMA3,
]


def register(family: Family) -> None:
    """Add a family to the table. Raises EngineError when one with its name or its spelling in files is there."""
    for other in _TABLE:
        if (
            family.name == other.name
            or family.gguf_architecture == other.gguf_architecture
            or family.hf_model_type == other.hf_model_type
        ):
            raise EngineError(f"the family {other.name!r} is in the table already: name {family.name!r} otherwise")
    _TABLE.append(family)


def of_gguf(architecture: str) -> Family:
    """Return the family of a GGUF file. Raises EngineError that names the known ones."""
    found = {family.gguf_architecture: family for family in _TABLE}
    if architecture not in found:
        raise EngineError(f"GGUF architecture '{architecture}' is not supported: use one of {', '.join(sorted(found))}")
    return found[architecture]


def of_hf(model_type: str | None) -> Family:
    """Return the family of a folder by its config.json. Raises EngineError that names the known ones."""
    found = {family.hf_model_type: family for family in _TABLE}
    if model_type is None or model_type not in found:
        raise EngineError(
            f"model_type '{model_type}' in config.json is not supported: use one of {', '.join(sorted(found))}"
        )
    return found[model_type]

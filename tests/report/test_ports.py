"""The table of ports in docs/architecture.md: every name exists, and a local back end has what its port has."""

import importlib
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"


def of_store(name: str) -> Any:
    module, _, cls = name.partition(".")
    return getattr(importlib.import_module(f"bessemer.store.{module}"), cls)


def test_ports_and_their_local_back_ends_are_what_the_page_says() -> None:
    section = PAGE.read_text().split("## Ports\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+\.\w+)` \|[^|]*\|([^|]*)\|", section, flags=re.MULTILINE)
    assert len(rows) == 5
    for port, local in rows:
        for back_end in re.findall(r"`(\w+\.\w+)`", local):
            offered = {name for name in vars(of_store(port)) if not name.startswith("_")}
            assert offered, port
            assert offered <= set(dir(of_store(back_end))), back_end

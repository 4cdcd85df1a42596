"""A server with what is beside this file; `python -m tests.dialects.outside.server DATA CONFIG` prints its URL."""

import sys
from pathlib import Path

from tests.dialects.outside.echo import ECHO
from tests.dialects.outside.plain import Plain
from tests.dialects.outside.stages import STAGES

from bessemer.core.settings import Settings
from bessemer.dialects import DIALECTS
from bessemer.gateway.providers import PROVIDERS
from bessemer.server.composition import Composition
from bessemer.server.serve import serve

COMPOSITION = Composition(dialects=(*DIALECTS, Plain()), providers=(*PROVIDERS, ECHO), stages=STAGES)

if __name__ == "__main__":
    settings = Settings(data=Path(sys.argv[1]), config=Path(sys.argv[2]), port=0)
    serve(settings, lambda started: print(started.url, flush=True), worker=False, composition=COMPOSITION)  # noqa: T201

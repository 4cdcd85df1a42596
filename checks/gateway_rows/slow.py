"""The row about slow upstreams; it takes as long as they do."""

import threading
import time

from gateway_rows.table import Bench, Seen, row


@row(27, "comments count as life: 65 s to the first token and 35 s between two are served")
def patience(bench: Bench, seen: Seen) -> None:
    """Row 27: time limits."""
    found: dict[str, tuple[int, str, float]] = {}

    def ask(model: str, stream: bool) -> None:
        begun = time.monotonic()
        answer = bench.server.stream(model) if stream else bench.server.chat(model)
        said = answer.text if answer.status != 200 else answer.said() if stream else answer.message["content"]
        found[f"{model} stream={stream}"] = (answer.status, said, time.monotonic() - begun)

    asked = [("slow65", True), ("slow65", False), ("pause35", True)]
    threads = [threading.Thread(target=ask, args=pair) for pair in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, (status, said, took) in found.items():
        seen.check(name, (status, said) == (200, "Hello"), (status, said, f"{took:.0f} s"))

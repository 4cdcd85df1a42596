"""Another back end of change notices: PostgreSQL says itself when a count has changed (LISTEN, NOTIFY)."""

import contextlib
import threading
from collections.abc import Callable

import psycopg
from sqlalchemy.engine import make_url

_SEND = """
CREATE OR REPLACE FUNCTION tell_of_revisions() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('revisions', NEW.name); RETURN NEW; END $$;
CREATE OR REPLACE TRIGGER tell_of_revisions AFTER INSERT OR UPDATE ON revisions
    FOR EACH ROW EXECUTE FUNCTION tell_of_revisions();
LISTEN revisions;
"""
_AGAIN_S = 0.02


class ListeningNotices:
    """`ChangeNotices` without a poll; who writes need not know of it."""

    def __init__(self, url: str) -> None:
        self._url = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._subscriptions: list[tuple[str, Callable[[], object]]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def subscribe(self, name: str, follow: Callable[[], object]) -> None:
        self._subscriptions.append((name, follow))

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        first = True
        while not self._stop.wait(0 if first else _AGAIN_S):
            first = False
            with contextlib.suppress(psycopg.Error), psycopg.connect(self._url, autocommit=True) as connection:
                connection.execute(_SEND)
                self._listen(connection)

    def _listen(self, connection: "psycopg.Connection[object]") -> None:
        due = list(self._subscriptions)  # whatever changed before somebody listened
        while not self._stop.is_set():
            due = [subscription for subscription in due if not _told(subscription[1])]
            names = {notice.payload for notice in connection.notifies(timeout=_AGAIN_S)}
            due += [one for one in self._subscriptions if one[0] in names and one not in due]


def _told(follow: Callable[[], object]) -> bool:
    try:
        follow()
    except Exception:  # whatever it is, it is told again
        return False
    return True

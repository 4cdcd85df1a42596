"""What durable workflows keep in the database: JSON, read without running anything.

DBOS keeps values as pickles by default, and reads any row that says it is one as a pickle, whatever serializer it was
given. A pickle runs code when it is read, so whoever could write such a row would run code in the worker.
"""

import json
from typing import Any, Final

from dbos import Serializer
from dbos._serialization import DefaultSerializer

from bessemer.core.errors import BessemerError, StoreError

_VALUE: Final = "value"
_ERROR: Final = "error"


class JsonValues(Serializer):
    """Values as JSON. Of an error its code, message and parameter are kept: a replayed step raises a BessemerError."""

    def name(self) -> str:
        """Return what marks the rows that this wrote."""
        return "bessemer_json"

    def serialize(self, data: Any) -> str:
        """Return a value as text. Raises TypeError or ValueError for what JSON cannot hold."""
        if not isinstance(data, BaseException):
            return json.dumps({_VALUE: data}, allow_nan=False)
        param = data.param if isinstance(data, BessemerError) else None
        code = (data.error_code if isinstance(data, BessemerError) else None) or type(data).__name__
        return json.dumps({_ERROR: {"code": code, "message": str(data), "param": param}})

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value that `serialize` wrote. Raises ValueError, KeyError or TypeError for anything else."""
        kept = json.loads(serialized_data)
        if _ERROR in kept:
            error = kept[_ERROR]
            return BessemerError(error["message"], param=error["param"], code=error["code"])
        return kept[_VALUE]


def refuse_pickles() -> None:
    """Make DBOS refuse every row that holds a pickle, in this process. Call before anything of its tables is read."""
    DefaultSerializer.deserialize = _refuse  # type: ignore[method-assign, assignment]


def _refuse(_serializer: Any, serialized_data: str) -> Any:
    del serialized_data
    raise StoreError("A workflow's row holds a pickle, which is never read: Bessemer writes JSON. Who wrote that row?")

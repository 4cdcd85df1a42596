"""A bounded memory of what was made lately, shared by threads."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
_Value = TypeVar("_Value")


class Recent(Generic[Key, _Value]):
    """Keeps the values of the last `size` keys that were asked for."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Key, _Value] = OrderedDict()
        self._lock = threading.Lock()

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def get(self, key: Key, make: Callable[[], _Value]) -> _Value:
        """Return the value of a key, made if it is not there; two threads may both make it, one is kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()  # outside the lock: it may take long, and others need other values
        with self._lock:
            value = self._values.setdefault(key, value)
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        return value

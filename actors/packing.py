"""Plain data between a server and a shard of the same deployment, as bytes: Ray passes bytes through as they are.

Left to itself Ray walks every object in Python (cloudpickle), and a frozen dataclass with slots tells its state through
`dataclasses.fields`: 23 us a checkout. Here C walks, and a dataclass is its class and its values: 5 us.

Invariant: what is unpacked was packed by a process that holds the cluster's token (`ray_cluster.py`): nobody else reaches it.
"""

import copyreg
import io
import pickle
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any

Reducer = Callable[[Any], Any]

unpack: Callable[[bytes], Any] = pickle.loads
"""What was packed, equal to what it was."""


def pack(message: object) -> bytes:
    """The bytes of a message: commands, answers, news."""
    stream = io.BytesIO()
    _Pickler(stream, protocol=5).dump(message)
    return stream.getvalue()


class _Reducers(dict[type, Reducer]):
    """How each type is taken apart; a dataclass is looked at once."""

    def __missing__(self, kind: type) -> Reducer:
        if not is_dataclass(kind):
            raise KeyError(kind)  # the pickler knows what to do with any other type
        self[kind] = reducer = _reducer_of(kind)
        return reducer


def _reducer_of(kind: Any) -> Reducer:
    match [field.name for field in fields(kind)]:
        case []:
            return lambda _: (kind, ())
        case [name]:
            return lambda one: (kind, (getattr(one, name),))
        case names:
            values = attrgetter(*names)
            return lambda one: (kind, values(one))


class _Pickler(pickle.Pickler):
    dispatch_table = _Reducers(copyreg.dispatch_table)

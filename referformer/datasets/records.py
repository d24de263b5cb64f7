"""Many small things in few arrays: no reference counts, so that worker processes share the memory.

A forked process copies every page it writes to, and to read a Python object is to write to its
count.
"""

import pickle
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np


class Records(Sequence[bytes]):
    """Records of any length, in one buffer."""

    def __init__(self, records: Iterable[bytes]) -> None:
        records = list(records)
        self._bytes = np.frombuffer(b''.join(records), np.uint8)
        self._ends = np.cumsum([len(record) for record in records], dtype=np.int64)

    def __len__(self) -> int:
        """How many."""
        return len(self._ends)

    def __getitem__(self, index: int) -> bytes:
        """The record at an index from 0."""
        start = self._ends[index - 1] if index > 0 else 0
        return self._bytes[start : self._ends[index]].tobytes()


class PackedMapping(Mapping[str, Any]):
    """A copy of a mapping, with its values pickled; each look-up makes a new object."""

    def __init__(self, mapping: Mapping[str, Any]) -> None:
        self._index = {key: index for index, key in enumerate(mapping)}
        self._values = Records(pickle.dumps(value, protocol=4) for value in mapping.values())

    def __len__(self) -> int:
        """How many keys."""
        return len(self._index)

    def __iter__(self) -> Iterator[str]:
        """The keys."""
        return iter(self._index)

    def __getitem__(self, key: str) -> Any:
        """The value of a key, or KeyError."""
        return pickle.loads(self._values[self._index[key]])

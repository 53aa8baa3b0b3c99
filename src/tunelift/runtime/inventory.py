"""What tensors are alive: the bytes of every storage, from the operation that makes it until it is freed."""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


@dataclass(frozen=True)
class Origin:
    """Where a storage comes from."""

    made_by: str
    """`held` for what was there before, else the operation's name."""
    dtype: str
    shape: tuple[int, ...]


class Inventory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While active, follows each storage that an operation returns; `hold` adds what was there before.

    It sees operations as autograd and autocast hand them on, so it also sees the backward pass, recomputation and the
    optimizer. What a kernel allocates and frees inside one operation is not seen.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        """Bytes alive now."""
        self.peak = 0
        """Most bytes alive after any operation."""
        self.peak_operation = ""
        """The operation after which most was alive."""
        self._known: dict[int, weakref.ref[Any]] = {}
        self._events: list[tuple[int, Origin]] = []
        self._events_at_peak = 0

    def hold(self, tensors: Iterable[torch.Tensor], name: str = "held") -> None:
        """Count tensors that exist already."""
        for tensor in tensors:
            self._follow(tensor, name)
        self._note(name)

    def forget_peak(self) -> None:
        """Start over from what is alive now."""
        self._events = [(size, origin) for origin, size in self._alive(len(self._events)).items()]
        self.peak, self.peak_operation, self._events_at_peak = self.live, "", len(self._events)

    def at_peak(self) -> dict[Origin, int]:
        """Bytes alive at the peak, by origin."""
        return self._alive(self._events_at_peak)

    def _alive(self, events: int) -> dict[Origin, int]:
        sizes: Counter[Origin] = Counter()
        for size, origin in self._events[:events]:
            sizes[origin] += size
        return {origin: size for origin, size in sizes.items() if size}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = str(function)
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self._follow(leaf, name)
        self._note(name)
        return result

    def _note(self, operation: str) -> None:
        if self.live > self.peak:
            self.peak, self.peak_operation, self._events_at_peak = self.live, operation, len(self._events)

    def _follow(self, tensor: torch.Tensor, name: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        known = self._known.get(key)
        if known is not None and known() is storage:
            return
        size, origin = storage.nbytes(), Origin(name, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))

        def freed(reference: Any) -> None:
            self.live -= size
            self._events.append((-size, origin))
            if self._known.get(key) is reference:
                del self._known[key]

        self._known[key] = weakref.ref(storage, freed)
        self.live += size
        self._events.append((size, origin))

"""Reducers: how objects are pickled whose own way can't be used, or copies data that could travel out of band."""

from __future__ import annotations

import copyreg
import pickle
import sys
from collections.abc import Callable, Mapping
from typing import Any, Literal

Reducer = Callable[[Any], Any]

_PROTOCOL = 5
_WORTH_BYTES = 1 << 14  # a smaller array is pickled faster in its own way

_tables: dict[int, tuple[tuple[int, ...], dict[type, Reducer]]] = {}  # by id of what they extend, with what they rest on


def dispatch_table(usual: Mapping[type, Reducer]) -> Mapping[type, Reducer]:
    """Return the usual reducers by exact type, with ours for what is imported in this process."""
    numpy, pandas, torch = (sys.modules.get(name) for name in ("numpy", "pandas", "torch"))
    array: Any = getattr(numpy, "ndarray", None)  # it may just be imported in another thread
    n_kinds = len(_kinds_of(array)) if array is not None else 0
    facts = len(usual), n_kinds, hasattr(pandas, "arrays"), hasattr(torch, "Tensor")
    known = _tables.get(id(usual))
    if known is not None and known[0] == facts:
        return known[1]
    table: dict[type, Reducer] = {**usual, memoryview: _reduce_memoryview}
    if array is not None:
        table.update(dict.fromkeys(_kinds_of(array), _reduce_array))
        masked = getattr(sys.modules.get("numpy.ma"), "MaskedArray", None)
        if masked is not None:
            table[masked] = _reduce_masked
    for kind in _arrow_kinds(pandas):
        table[kind] = _reduce_arrow
    if hasattr(torch, "Tensor"):
        table[torch.Tensor] = _reduce_tensor  # type: ignore[union-attr]
    _tables[id(usual)] = facts, table
    return table


def _kinds_of(kind: Any) -> list[type]:
    """Return a class and all classes that derive from it, however far; 1 µs."""
    kinds = [kind]
    for derived in kinds:
        kinds += derived.__subclasses__()
    return kinds


# --- memoryview: not to be pickled by itself ---


def _reduce_memoryview(view: memoryview) -> tuple[Any, ...]:
    if view.format.lstrip("@") not in _NATIVE:
        from numpy import asarray

        return memoryview, (asarray(view),)
    if view.c_contiguous:
        data: Any = pickle.PickleBuffer(view)
    else:
        data = view.tobytes() if view.readonly else bytearray(view.tobytes())
    return _as_memoryview, (data, view.format, view.shape)


_NATIVE = frozenset("cbB?hHiIlLqQnNfdP")  # the formats that a memoryview can be cast to


def _as_memoryview(data: Any, format: str, shape: tuple[int, ...]) -> memoryview:
    flat = memoryview(data).cast("B")
    return flat.cast(format) if len(shape) == 1 else flat.cast(format, shape)  # type: ignore[call-overload,no-any-return]


# --- arrays: where their data is in the pickle it is copied twice, and that they are read-only is forgotten ---


def _reduce_array(array: Any) -> Any:
    numpy: Any = sys.modules["numpy"]
    kind = type(array)
    if kind is not numpy.ndarray:
        is_usual = all(getattr(kind, name) is getattr(numpy.ndarray, name) for name in _HOOKS)
        return (_as_kind, (array.view(numpy.ndarray), kind)) if is_usual else array.__reduce_ex__(_PROTOCOL)
    reduced = array.__reduce_ex__(_PROTOCOL)
    if len(reduced) != 3:
        return reduced  # numpy leaves the data out of the pickle
    is_lossy = array.nbytes >= _WORTH_BYTES or not array.dtype.isnative  # numpy brings every array to native order
    if is_lossy and not array.dtype.hasobject:
        return _reduce_bytes(numpy, array)
    return reduced if array.flags.writeable else (*reduced, None, None, _set_read_only)


_HOOKS = ("__reduce__", "__reduce_ex__", "__setstate__")


def _as_kind(array: Any, kind: Any) -> Any:
    return array.view(kind)


def _reduce_bytes(numpy: Any, array: Any) -> tuple[Any, ...]:
    """Reduce an array whose kind of data has no buffer, such as dates, or whose items don't lie side by side."""
    order = "F" if array.flags.fnc else "C"
    data = numpy.asarray(array, order=order).ravel(order="K").view(numpy.uint8)
    if data.flags.writeable is not array.flags.writeable:
        data.flags.writeable = array.flags.writeable
    return _as_array, (data, array.dtype, array.shape, order)


def _as_array(data: Any, dtype: Any, shape: tuple[int, ...], order: Literal["C", "F"]) -> Any:
    return data.view(dtype).reshape(shape, order=order)


def _set_read_only(array: Any, state: Any) -> None:
    array.__setstate__(state)
    array.flags.writeable = False


def _reduce_masked(array: Any) -> Any:
    numpy = sys.modules["numpy"]
    if array._baseclass is not numpy.ndarray:
        return array.__reduce__()
    return _as_masked, (array._data.view(numpy.ndarray), array._mask, array._fill_value, array._hardmask)


def _as_masked(data: Any, mask: Any, fill_value: Any, hard_mask: bool) -> Any:
    from numpy.ma import MaskedArray, nomask

    array: Any = MaskedArray(data, mask=nomask if mask is nomask or mask.shape == () else mask, hard_mask=hard_mask)
    array._fill_value = fill_value
    return array


# --- pandas' columns of Arrow data: they are pickled with a copy of it even where it is in one piece ---


def _arrow_kinds(pandas: Any) -> list[type]:
    kinds = [getattr(getattr(pandas, "arrays", None), name, None) for name in ("ArrowExtensionArray", "ArrowStringArray")]
    return [kind for kind in kinds if kind is not None]


def _reduce_arrow(array: Any) -> Any:
    chunks = getattr(array, "_pa_array", None)
    if chunks is None or chunks.num_chunks != 1:
        return array.__reduce_ex__(_PROTOCOL)
    state = {**vars(array), "_pa_array": chunks.chunk(0)}
    if "_cache" in state:
        state["_cache"] = {}
    return copyreg.__newobj__, (type(array),), state  # type: ignore[attr-defined]


# --- torch: its tensors are pickled through a file in memory ---


def _reduce_tensor(tensor: Any) -> Any:
    torch: Any = sys.modules["torch"]
    is_simple = (
        tensor.device.type == "cpu"
        and tensor.layout is torch.strided
        and tensor.grad_fn is None
        and not (tensor.is_quantized or tensor.is_conj() or tensor.is_neg() or vars(tensor))
    )
    if not is_simple:
        return tensor.__reduce_ex__(_PROTOCOL)
    plain = tensor.detach()
    order = sorted(range(plain.dim()), key=plain.stride, reverse=True)  # as it lies in memory, if it is dense
    if not plain.permute(order).is_contiguous():
        order = list(range(plain.dim()))
    plain = plain.permute(order).contiguous()
    data = plain.reshape(-1).view(torch.uint8).numpy() if plain.numel() else None
    return _as_tensor, (data, str(tensor.dtype).partition(".")[2], tuple(plain.shape), order, tensor.requires_grad)


def _as_tensor(data: Any, dtype: str, shape: tuple[int, ...], order: list[int], requires_grad: bool) -> Any:
    import torch  # type: ignore[import-not-found,unused-ignore]

    kind = getattr(torch, dtype)
    plain: Any = torch.empty(shape, dtype=kind) if data is None else torch.from_numpy(data).view(kind).reshape(shape)
    places = [order.index(dim) for dim in range(len(order))]
    return plain.permute(places).requires_grad_(requires_grad)

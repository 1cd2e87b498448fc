"""Sensing inner parallelism: threads, processes or a device that the work brings of its own.

The search runs no code of the values it looks at: no properties, no ``__getattr__``, no ``__len__``, no ``__hash__``.
Attributes come out of instance dictionaries and slots, entries out of the built-in containers by the built-in iterators,
and classes are told apart by identity.

    roots ──► queue, nearest first ──► settings among its names (n_jobs=-1)?  what it is (a network)?  its parts ──┐
                       ▲                                                                                           │
                       └──────────────────── those that aren't plain, at most 200 in all ◄─────────────────────────┘
"""

from __future__ import annotations

import operator
import re
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain, islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

# All are guesses: a pipeline in a stack in a search is 8 levels deep, and has about 60 parts.
_MAX_PARTS = 200
_MAX_DEPTH = 12
_MAX_POSITIONS = 32  # of one list: longer ones are data
_MAX_NAMES = 200  # of one dictionary or object
_MAX_NAME = 40

# Thread counts by the names that scikit-learn (also behind a step's name and __), joblib, Optuna and the boosters give them.
_JOBS = frozenset({"n_jobs"})
_THREADS = frozenset({"num_threads", "num_thread", "n_threads", "nthread", "nthreads", "thread_count"})
_DEVICES = frozenset({"device", "device_type", "accelerator", "task_type", "tree_method", "predictor"})
_SETTINGS = _JOBS | _THREADS | _DEVICES
_A_DEVICE = re.compile(r"(cuda|gpu|mps|xpu|tpu|hip|rocm|npu)(:\d+)?|gpu_(hist|predictor)", re.IGNORECASE)

# Told apart by id: a class of classes may define __hash__ and __eq__. These never die, so their ids stay theirs.
_PLAIN = frozenset(
    map(id, (int, float, complex, bool, str, bytes, bytearray, memoryview, range, slice, type(None), type(...)))
)
_DATA = frozenset({"numpy", "pandas", "pyarrow", "polars", "scipy", "xarray"})  # data, however it is put together
_NETWORKS = frozenset({"torch", "tensorflow", "keras", "tf_keras", "jax", "jaxlib", "flax"})
_ON_DEVICE = frozenset({"cupy", "cudf", "cuml"})  # whatever they make lives on a GPU

# Boosters use every core unless told otherwise; by which name they are told.
_BOOSTERS = {"xgboost": "n_jobs", "lightgbm": "n_jobs", "catboost": "thread_count"}
_BOOSTER_PARAMS = frozenset({"kwargs", "_other_params", "_init_params", "params"})
_LIBRARIES = _NETWORKS | _ON_DEVICE | _BOOSTERS.keys()
_MODELS = frozenset({"Module", "Model", "Layer", "Optimizer"})

_mro: Callable[[type], tuple[type, ...]] = vars(type)["__mro__"].__get__
_namespace: Callable[[type], Mapping[str, Any]] = vars(type)["__dict__"].__get__
_module: Callable[[type], object] = vars(type)["__module__"].__get__
_qualname: Callable[[type], str] = vars(type)["__qualname__"].__get__
_fn_of, _args_of, _keywords_of = (vars(partial)[name].__get__ for name in ("func", "args", "keywords"))


def find_inner_parallelism(value: object, path: str) -> str | None:
    """Return where a value brings threads, processes or a device of its own; None if it does not seem to.

    A bounded search (200 parts, 12 levels, 32 entries of a list) that runs none of the value's code. Measured: 0.1 µs
    for a number or a text, 1.3 µs for an array, 20–30 µs for a pipeline, 50 µs for a stack in a search, 0.2 ms for a
    fitted forest.

    Args:
        value: What to look through.
        path: What to call it.

    Returns:
        Text for a log, for example ``rf.n_jobs=-1``, ``params['device']='cuda'`` or
        ``net (torch.nn.modules.module.Module)``.
    """
    if id(type(value)) in _PLAIN and path not in _SETTINGS:
        return None
    return _search([(path, value)])


def find_in_call(fn: Callable[..., object], args: Sequence[object]) -> str | None:
    """Return where a function or its arguments bring threads, processes or a device of their own.

    Looks through the arguments, defaults, closure, arguments bound by `functools.partial` and the object of a bound
    method, but not through globals. Measured: 0.7 µs for a plain function with plain arguments, else 5 µs more than
    `find_inner_parallelism` takes.

    Args:
        fn: Any callable, as the user gave it.
        args: Its positional arguments, by which parameter names are found; for `offloop.star`, the item.

    Returns:
        As `find_inner_parallelism` does, with paths that begin at parameters of fn where these are known, else at
        ``args[0]``; what a method is bound to is called ``self``.
    """
    if type(fn) is FunctionType and fn.__closure__ is None and fn.__kwdefaults__ is None:
        bound = args if fn.__defaults__ is None else (*fn.__defaults__, *args)
        if _PLAIN.issuperset(map(id, map(type, bound))) and _SETTINGS.isdisjoint(fn.__code__.co_varnames):
            return None
    return _search(_bound(fn, args))


# --- the search ------------------------------------------------------------------------------------------------------

_Part = tuple[object, object, bool]  # name, value, whether the name is an attribute's


class _Node(NamedTuple):
    """A part to look into, and how it was reached."""

    value: object
    parent: _Node | None
    name: object  # an attribute, a key or a position
    is_attribute: bool
    depth: int


def _search(roots: Iterable[tuple[str, object]]) -> str | None:
    """Look at roots, their parts, the parts' parts: nearest first, so that large data hides no neighbour."""
    queue: list[_Node] = []
    seen: set[int] = set()
    found = _look(((name, value, True) for name, value in roots), None, queue, seen)
    for node in queue:  # which grows
        if found is not None:
            break
        kind = _kind_of(type(node.value))
        if kind.library:
            found = _found_by_library(node, kind)
        if found is None and not kind.is_closed and node.depth < _MAX_DEPTH:
            found = _look(_parts(node.value, kind), node, queue, seen)
    return found


def _look(parts: Iterable[_Part], parent: _Node | None, queue: list[_Node], seen: set[int]) -> str | None:
    """Return what the names of parts tell; otherwise queue those that may have parts of their own."""
    depth = 0 if parent is None else parent.depth + 1
    for name, value, is_attribute in parts:
        if type(name) is str and (name in _SETTINGS or "__" in name) and _is_parallel(name.rpartition("__")[2], value):
            return f"{_path(_Node(value, parent, name, is_attribute, depth))}={_shown(value)}"
        if id(type(value)) not in _PLAIN and id(value) not in seen and len(queue) < _MAX_PARTS:
            seen.add(id(value))
            queue.append(_Node(value, parent, name, is_attribute, depth))
    return None


def _is_parallel(name: str, value: object) -> bool:
    if name in _DEVICES:
        return type(value) is str and _A_DEVICE.fullmatch(value) is not None
    number = _whole_number(value) if name in _SETTINGS else None
    # joblib refuses 0; with LightGBM and XGBoost it means all cores.
    return number is not None and number != 1 and not (number == 0 and name in _JOBS)


def _whole_number(value: Any) -> int | None:
    cls = type(value)
    if cls is int or (_module(cls) == "numpy" and _qualname(cls).lstrip("u").startswith("int")):
        return operator.index(value)
    return None


def _shown(value: object) -> str:
    return repr(value) if type(value) is str else str(_whole_number(value))


def _path(node: _Node) -> str:
    name = node.name
    if node.parent is None:
        return name if type(name) is str else "…"
    before = _path(node.parent)
    if node.is_attribute:
        return f"{before}.{name}"
    # A key may be anything, and a log is to hold names, not values.
    is_shown = type(name) is int or (type(name) is str and len(name) <= _MAX_NAME)
    return f"{before}[{name!r}]" if is_shown else f"{before}[…]"


def _parts(value: Any, kind: _Kind) -> Iterable[_Part]:
    if kind.is_call:
        return [(name, part, True) for name, part in _bound(value, ())]
    attributes = [(name, part, True) for name, part in _attributes(value, kind)] if kind.has_attributes else []
    if kind.entries is None:
        return attributes
    if kind.is_mapping:
        return [(key, part, False) for key, part in _first(kind.entries(value), _MAX_NAMES)] + attributes
    entries = _first(kind.entries(value), _MAX_POSITIONS)
    if _PLAIN.issuperset(map(id, map(type, entries))):
        return attributes
    return [(i, part, False) for i, part in enumerate(entries)] + attributes


def _first(entries: Iterator[Any], count: int) -> list[Any]:
    try:
        return list(islice(entries, count))
    except RuntimeError:  # changed by another thread just now
        return []


def _attributes(value: object, kind: _Kind) -> list[tuple[Any, object]]:
    found: list[tuple[Any, object]] = []
    if kind.attributes is not None:
        try:
            attributes = kind.attributes(value)
        except Exception:  # a class written in C may do what it likes
            attributes = None
        if type(attributes) is dict:
            found = [pair for pair in _first(iter(attributes.items()), _MAX_NAMES) if type(pair[0]) is str]
    for name, slot in kind.slots:
        try:
            found.append((name, slot.__get__(value)))
        except AttributeError:  # empty
            continue
    return found


# --- what is bound in a call -----------------------------------------------------------------------------------------

_HAS_VARARGS = 0x04  # inspect.CO_VARARGS


def _bound(fn: Any, args: Sequence[object]) -> list[tuple[str, object]]:
    """Return what a call works on, by the names of its parameters: bound earlier, given now, or by default."""
    given, keywords = tuple(args), dict[str, object]()
    while True:
        cls = type(fn)
        if issubclass(cls, partial):
            given, keywords = (*_args_of(fn), *given), {**_keywords_of(fn), **keywords}
            fn = _fn_of(fn)
        elif cls is MethodType:
            given = (fn.__self__, *given)
            fn = fn.__func__
        elif cls is not FunctionType and _class_attribute(cls, "wraps_fn") is True:
            if len(given) == 1 and type(given[0]) is tuple:
                given = given[0]
            fn = fn.fn
        else:
            break
    if cls is FunctionType:
        return [*_arguments(fn, given, keywords), *_captured(fn)]
    call = _class_attribute(cls, "__call__")
    if type(call) is FunctionType:
        return _arguments(call, (fn, *given), keywords)
    myself = fn.__self__ if cls is BuiltinFunctionType else fn  # a module for a function, an object for a method
    return [("self", myself), *((f"args[{i}]", value) for i, value in enumerate(given)), *keywords.items()]


def _arguments(fn: FunctionType, given: tuple[Any, ...], keywords: dict[str, object]) -> list[tuple[str, object]]:
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount]
    arguments: dict[str, object] = dict(zip(reversed(names), reversed(fn.__defaults__ or ()), strict=False))
    arguments.update(fn.__kwdefaults__ or {})
    arguments.update(zip(names, given, strict=False))
    arguments.update(keywords)
    found = list(arguments.items())
    if code.co_flags & _HAS_VARARGS:
        rest = code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
        found += [(f"{rest}[{i}]", value) for i, value in enumerate(given[len(names) :])]
    return found


def _captured(fn: FunctionType) -> Iterator[tuple[str, object]]:
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # empty
            continue


def _class_attribute(cls: type, name: str) -> object:
    return next((space[name] for space in map(_namespace, _mro(cls)) if name in space), None)


# --- what classes say ------------------------------------------------------------------------------------------------

_CONTAINERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (dict, lambda value: iter(dict.items(value))),
    (list, list.__iter__),
    (tuple, tuple.__iter__),
    (set, set.__iter__),
    (frozenset, frozenset.__iter__),
    (deque, deque.__iter__),
)
_DESCRIPTORS = (types.GetSetDescriptorType, types.MemberDescriptorType)  # those written in C, or made for slots


class _Kind(NamedTuple):
    """What a class says of its instances."""

    is_closed: bool = False  # they are not to be looked into
    is_call: bool = False  # they bind arguments
    entries: Callable[[Any], Iterator[Any]] | None = None  # the built-in iterator of a container
    is_mapping: bool = False
    attributes: Callable[[object], object] | None = None  # where an instance dictionary is
    slots: tuple[tuple[str, Any], ...] = ()
    has_attributes: bool = False
    library: str = ""  # that one is derived from, of those known for parallelism or devices
    ancestor: type = object  # the nearest class of that library
    is_model: bool = False  # something of that library that is called or trained, unlike tensors, types, data sets
    device: Any = None  # where a tensor says on which device it is


# By id of the class, which is kept alive by this: a class may define __hash__ for itself.
_kinds: dict[int, tuple[type, _Kind]] = {}
_MAX_KINDS = 512


def _kind_of(cls: type) -> _Kind:
    known = _kinds.get(id(cls))
    if known is not None:
        return known[1]
    kind = _read(cls)
    if len(_kinds) >= _MAX_KINDS:
        _kinds.clear()
    _kinds[id(cls)] = cls, kind
    return kind


def _read(cls: type) -> _Kind:
    if issubclass(cls, (type, ModuleType)) or _top(cls) in _DATA:
        return _Kind(is_closed=True)
    if issubclass(cls, partial) or cls is FunctionType or cls is MethodType or cls is BuiltinFunctionType:
        return _Kind(is_call=True)
    family = _mro(cls)[:-1]
    spaces = [_namespace(ancestor) for ancestor in family]
    dicts = (space["__dict__"] for space in spaces if "__dict__" in space)
    # A class may have put a property in the place of the dictionary.
    attributes = next((found.__get__ for found in dicts if issubclass(type(found), _DESCRIPTORS)), None)
    slots = tuple(
        (name, slot)
        for space in spaces
        if "__slots__" in space
        for name, slot in space.items()
        if type(slot) is types.MemberDescriptorType
    )
    kind = _Kind(
        entries=next((entries for container, entries in _CONTAINERS if issubclass(cls, container)), None),
        is_mapping=issubclass(cls, dict),
        attributes=attributes,
        slots=slots,
        has_attributes=attributes is not None or bool(slots),
    )
    ours = [(top, *pair) for pair in zip(family, spaces, strict=True) if (top := _top(pair[0])) in _LIBRARIES]
    if not ours:
        return kind
    library, ancestor, _ = ours[0]
    is_model = any(_is_model(*one) for one in ours)
    # Only of the library's own classes, where reading it runs nobody else's code.
    device = _class_attribute(cls, "device") if _top(cls) == "torch" else None
    return kind._replace(
        is_closed=is_model,
        library=library,
        ancestor=ancestor,
        is_model=is_model,
        device=device if issubclass(type(device), _DESCRIPTORS) else None,
    )


def _top(cls: type) -> str:
    module = _module(cls)
    return module.partition(".")[0] if type(module) is str else ""


def _is_model(library: str, cls: type, space: Mapping[str, object]) -> bool:
    if library in _BOOSTERS:
        return "fit" in space or "predict" in space
    # With torch even a device can be called.
    return _qualname(cls) in _MODELS or (library != "torch" and ("__call__" in space or "fit" in space))


def _found_by_library(node: _Node, kind: _Kind) -> str | None:
    if kind.library in _BOOSTERS:
        return _found_in_booster(node, kind) if kind.is_model else None
    if kind.is_model or kind.library in _ON_DEVICE:
        return f"{_path(node)} ({_full_name(kind.ancestor)})"
    cls = type(node.value)
    if kind.device is not None:
        device = str(kind.device.__get__(node.value))
    elif _full_name(cls) == "torch.device":
        device = str(node.value)
    else:
        return None
    return f"{_path(node)} ({_full_name(cls)} on {device})" if _A_DEVICE.fullmatch(device) else None


def _full_name(cls: type) -> str:
    return f"{_module(cls)}.{_qualname(cls)}"


def _found_in_booster(node: _Node, kind: _Kind) -> str | None:
    """Unlike other estimators, one that is told nothing of threads uses all cores."""
    own = _attributes(node.value, kind)
    params = [part for name, part in own if type(name) is str and name in _BOOSTER_PARAMS and type(part) is dict]
    told = False
    for name, part in chain(own, *(_first(iter(given.items()), _MAX_NAMES) for given in params)):
        if type(name) is str and name in _SETTINGS:
            if _is_parallel(name, part):
                return f"{_path(node)}.{name}={_shown(part)}"
            told = told or (name not in _DEVICES and _whole_number(part) == 1)
    if told:
        return None
    name = _BOOSTERS[kind.library]
    return f"{_path(node)}.{name}={_whole_number(dict(own).get(name))}"

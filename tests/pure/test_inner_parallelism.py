"""sensing/inner_parallelism.py: what is found in values and calls, and that looking runs none of their code."""

from __future__ import annotations

from collections import OrderedDict, deque, namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import GetSetDescriptorType, SimpleNamespace
from typing import Any

import attrs
import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    RandomForestClassifier,
    RandomForestRegressor,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

import offloop
from offloop.deciding.seeding import Seeded
from offloop.sensing import inner_parallelism
from offloop.sensing.inner_parallelism import find_in_call, find_inner_parallelism


@dataclass
class Settings:
    """A plain one."""

    model: Any = None
    n_jobs: Any = None


@dataclass(slots=True)
class Slotted:
    """One without a dictionary."""

    model: Any = None
    num_threads: Any = None


@dataclass(frozen=True)
class Frozen:
    """One that can't be changed."""

    model: Any = None


@attrs.frozen
class Defined:
    """One made by attrs."""

    model: Any = None


class Child(Slotted):
    """One with slots above and a dictionary of its own."""


Pair = namedtuple("Pair", "left right")


def forest(n_jobs: int | None = -1) -> RandomForestRegressor:
    return RandomForestRegressor(n_jobs=n_jobs)


def pipeline(final: Any) -> Pipeline:
    return Pipeline([("scale", StandardScaler()), ("final", final)])


def stack(*estimators: Any, final: Any = None) -> StackingRegressor:
    return StackingRegressor([(f"e{i}", one) for i, one in enumerate(estimators)], final_estimator=final)


def fake(module: str, name: str, /, *bases: type, **namespace: Any) -> type:
    """Return a class that a library could have made."""
    return type(name, bases, {"__module__": module, **namespace})


def fit(self: Any, X: Any) -> None:
    raise AssertionError("was run")


XGB = fake("xgboost.sklearn", "XGBRegressor", fit=fit)
LGBM = fake("lightgbm.sklearn", "LGBMRegressor", fit=fit)
CAT = fake("catboost.core", "CatBoostRegressor", fit=fit)


class MyXGB(XGB):  # type: ignore[misc, valid-type]
    """A user's own one."""


def made(cls: type, **attributes: Any) -> Any:
    one = cls()
    vars(one).update(attributes)
    return one


Module = fake("torch.nn.modules.module", "Module", __call__=fit)
Linear = fake("torch.nn.modules.linear", "Linear", Module)
Adam = fake("torch.optim.adam", "Adam", fake("torch.optim.optimizer", "Optimizer"))
Layer = fake("keras.src.layers.layer", "Layer", __call__=fit)
Jitted = fake("jaxlib._jax", "PjitFunction", __call__=fit)
Array = fake("cupy", "ndarray")
Tensor = fake("torch", "Tensor", __slots__=("device",))
Device = fake("torch", "device", __slots__=("name",), __str__=lambda self: self.name, __call__=fit)


class Net(Module):  # type: ignore[misc, valid-type]
    """A user's own one."""


def tensor(device: str) -> Any:
    one = Tensor()
    one.device = torch_device(device)
    return one


def torch_device(name: str) -> Any:
    one = Device()
    one.name = name
    return one


FOUND: dict[str, tuple[object, str]] = {
    "estimator": (forest(), "m.n_jobs=-1"),
    "-2": (forest(-2), "m.n_jobs=-2"),
    "numpy's number": (forest(np.int64(4)), "m.n_jobs=4"),
    "pipeline": (pipeline(forest()), "m.steps[1][1].n_jobs=-1"),
    "search": (GridSearchCV(Ridge(), {}, n_jobs=2), "m.n_jobs=2"),
    "search over": (GridSearchCV(pipeline(forest(3)), {}), "m.estimator.steps[1][1].n_jobs=3"),
    "stack": (stack(Ridge(), forest()), "m.estimators[1][1].n_jobs=-1"),
    "stack's end": (stack(Ridge(), final=forest()), "m.final_estimator.n_jobs=-1"),
    "pipeline in a stack": (stack(pipeline(forest())), "m.estimators[0][1].steps[1][1].n_jobs=-1"),
    "deep": (
        GridSearchCV(pipeline(stack(pipeline(forest(2)))), {}),
        "m.estimator.steps[1][1].estimators[0][1].steps[1][1].n_jobs=2",
    ),
    "vote": (VotingClassifier([("a", RandomForestClassifier(n_jobs=8))]), "m.estimators[0][1].n_jobs=8"),
    "columns": (
        ColumnTransformer([("a", pipeline(FeatureUnion([], n_jobs=-1)), [0])]),
        "m.transformers[0][1].steps[1][1].n_jobs=-1",
    ),
    "function in an estimator": (
        FunctionTransformer(partial(fit, n_jobs=-1)),
        "m.func.n_jobs=-1",
    ),
    "list": ([Ridge(), forest()], "m[1].n_jobs=-1"),
    "branches": ([[Ridge()], [StandardScaler(), forest()]], "m[1][1].n_jobs=-1"),
    "tuple": ((1, forest()), "m[1].n_jobs=-1"),
    "namedtuple": (Pair(1, forest()), "m[1].n_jobs=-1"),
    "set": ({forest()}, "m[0].n_jobs=-1"),
    "deque": (deque([forest()]), "m[0].n_jobs=-1"),
    "dict": ({"rf": forest()}, "m['rf'].n_jobs=-1"),
    "ordered": (OrderedDict(rf=forest()), "m['rf'].n_jobs=-1"),
    "specification": (
        {"class": "sklearn.ensemble.RandomForestRegressor", "params": {"n_jobs": -1}},
        "m['params']['n_jobs']=-1",
    ),
    "Optuna": ({"finetune_params": {"n_trials": 50, "n_jobs": 4}}, "m['finetune_params']['n_jobs']=4"),
    "odd key": ({("a", "b"): forest()}, "m[…].n_jobs=-1"),
    "long key": ({"k" * 100: forest()}, "m[…].n_jobs=-1"),
    "parameter of a step": ({"rf__n_jobs": -1}, "m['rf__n_jobs']=-1"),
    "device of a step's step": ({"stack__net__device": "cuda"}, "m['stack__net__device']='cuda'"),
    "specification of a model": ({"model": "rf", "n_jobs": -1}, "m['n_jobs']=-1"),
    "nested branches": (
        [{"scale": 1}, {"branch": [[Ridge()], [{"branch": [[Ridge()], [forest()]]}]]}],
        "m[1]['branch'][1][0]['branch'][1][0].n_jobs=-1",
    ),
    "dataclass": (Settings(n_jobs=-1), "m.n_jobs=-1"),
    "estimator in a dataclass": (Settings(forest()), "m.model.n_jobs=-1"),
    "frozen": (Frozen(forest()), "m.model.n_jobs=-1"),
    "attrs": (Defined(forest()), "m.model.n_jobs=-1"),
    "units": (offloop.units([offloop.call(fit, 1, Ridge()), offloop.call(fit, 1, forest())]), "m.calls[1].X.n_jobs=-1"),
    "units' combine": (offloop.units([len], combine=partial(fit, forest())), "m.combine.self.n_jobs=-1"),
    "units in branches": ({"a": len, "b": offloop.units([forest().fit])}, "m['b'].calls[0].estimator.n_jobs=-1"),
    "slots": (Slotted(forest()), "m.model.n_jobs=-1"),
    "slot": (Slotted(num_threads=2), "m.num_threads=2"),
    "inherited slots": (Child(forest()), "m.model.n_jobs=-1"),
    "partial": (partial(fit, n_jobs=-1), "m.n_jobs=-1"),
    "partial's argument": (partial(fit, 1, forest()), "m.X.n_jobs=-1"),
    "method": (forest().fit, "m.estimator.n_jobs=-1"),
    "LightGBM's parameters": ({"num_threads": 0}, "m['num_threads']=0"),
    "XGBoost's parameters": ({"nthread": 4}, "m['nthread']=4"),
    "CatBoost's parameters": ({"thread_count": -1}, "m['thread_count']=-1"),
    "GPU of XGBoost": ({"device": "cuda"}, "m['device']='cuda'"),
    "old GPU of XGBoost": ({"tree_method": "gpu_hist"}, "m['tree_method']='gpu_hist'"),
    "GPU of CatBoost": ({"task_type": "GPU"}, "m['task_type']='GPU'"),
    "GPU of LightGBM": ({"device_type": "gpu"}, "m['device_type']='gpu'"),
    "second GPU": (SimpleNamespace(device="cuda:1"), "m.device='cuda:1'"),
    "Apple's": (SimpleNamespace(device="mps"), "m.device='mps'"),
    "XGBoost": (made(XGB, n_jobs=None), "m.n_jobs=None"),
    "XGBoost's 0": (made(XGB, n_jobs=0), "m.n_jobs=0"),
    "XGBoost's 4": (made(XGB, n_jobs=4), "m.n_jobs=4"),
    "XGBoost's other name": (made(XGB, n_jobs=None, kwargs={"nthread": 3}), "m.nthread=3"),
    "XGBoost's device": (made(XGB, n_jobs=1, device="cuda"), "m.device='cuda'"),
    "XGBoost's child": (made(MyXGB), "m.n_jobs=None"),
    "XGBoost in a pipeline": (pipeline(made(XGB)), "m.steps[1][1].n_jobs=None"),
    "LightGBM": (made(LGBM, n_jobs=None, _other_params={}), "m.n_jobs=None"),
    "LightGBM's -1": (made(LGBM, n_jobs=-1), "m.n_jobs=-1"),
    "LightGBM's other name": (made(LGBM, n_jobs=None, _other_params={"num_threads": 2}), "m.num_threads=2"),
    "CatBoost": (made(CAT, _init_params={}), "m.thread_count=None"),
    "CatBoost's 2": (made(CAT, _init_params={"thread_count": 2}), "m.thread_count=2"),
    "CatBoost's device": (made(CAT, _init_params={"thread_count": 1, "task_type": "GPU"}), "m.task_type='GPU'"),
    "torch": (Linear(), "m (torch.nn.modules.linear.Linear)"),
    "user's network": (Settings(Net()), "m.model (torch.nn.modules.module.Module)"),
    "optimizer": ([Adam()], "m[0] (torch.optim.adam.Adam)"),
    "keras": (pipeline(Layer()), "m.steps[1][1] (keras.src.layers.layer.Layer)"),
    "jax": (Jitted(), "m (jaxlib._jax.PjitFunction)"),
    "cupy": ([Array()], "m[0] (cupy.ndarray)"),
    "tensor": ([tensor("cuda:0")], "m[0] (torch.Tensor on cuda:0)"),
    "torch's device": (Settings(torch_device("cuda")), "m.model (torch.device on cuda)"),
}

PLAIN: dict[str, object] = {
    "none": None,
    "number": -1,
    "text": "n_jobs=-1",
    "bytes": b"n_jobs",
    "array": np.zeros((3, 3)),
    "array of objects": np.array([forest(), None], dtype=object),
    "generator": np.random.default_rng(1),
    "class": RandomForestRegressor,
    "module": np,
    "estimator": forest(None),
    "one job": forest(1),
    "numpy's one": forest(np.int64(1)),
    "flag": Settings(n_jobs=True),
    "no job": {"n_jobs": 0},
    "other parameter of a step": {"rf__n_estimators": 100, "__": 4, "rf__n_jobs": 1, "rf__": 2},
    "grid": {"rf__n_jobs": [1, -1]},
    "units": offloop.units([offloop.call(len, [Ridge()])], combine=len),
    "text for a number": {"n_jobs": "-1"},
    "fitted": pipeline(RandomForestRegressor(3)).fit(np.eye(5), np.arange(5)),
    "search": GridSearchCV(stack(pipeline(forest(None)), final=Ridge()), {"final_estimator__alpha": [1, 2]}),
    "rows": [{"a": 1, "b": [1, 2]}] * 5,
    "CPU": {"device": "cpu", "task_type": "CPU", "tree_method": "hist", "accelerator": None},
    "camera": {"device": "gpu-free"},
    "XGBoost": made(XGB, n_jobs=1),
    "XGBoost's other name": made(XGB, n_jobs=None, kwargs={"nthread": 1}),
    "fitted XGBoost": made(XGB, n_jobs=1, _Booster=made(fake("xgboost.core", "Booster", predict=fit))),
    "XGBoost's data": made(fake("xgboost.core", "DMatrix")),
    "LightGBM": made(LGBM, n_jobs=None, _other_params={"num_threads": 1}),
    "CatBoost": made(CAT, _init_params={"thread_count": 1}),
    "tensor": [tensor("cpu")],
    "torch's device": torch_device("cpu"),
    "torch's data": made(fake("torch.utils.data.dataset", "TensorDataset"), tensors=(tensor("cpu"),)),
    "torch's type": made(fake("torch", "dtype")),
    "jax's data": made(fake("jaxlib._jax", "ArrayImpl")),
}


@pytest.mark.parametrize(("value", "expected"), FOUND.values(), ids=FOUND)
def test_found(value: object, expected: str) -> None:
    """What brings parallelism or a device is found wherever it is, and its place is told as one would write it."""
    assert find_inner_parallelism(value, "m") == expected


@pytest.mark.parametrize("value", PLAIN.values(), ids=PLAIN)
def test_nothing_found(value: object) -> None:
    """Data, a single job, a CPU and what is told to use one thread are no parallelism."""
    assert find_inner_parallelism(value, "m") is None


@pytest.mark.parametrize(("path", "value"), [("n_jobs", -1), ("device", "cuda"), ("nthread", 2)])
def test_a_value_by_its_name(path: str, value: object) -> None:
    """A number or a text counts if the name that it goes by says so."""
    assert find_inner_parallelism(value, path) == f"{path}={value!r}"
    assert find_inner_parallelism(value, "x") is None


# --- calls -----------------------------------------------------------------------------------------------------------


def train(X: Any, model: Any = None, n_jobs: int = 1, *rest: Any, device: str = "cpu", **options: Any) -> None:
    """Take arguments in every way."""


def score(x: Any, y: Any) -> None:
    """Take two."""


def default_jobs(x: Any, n_jobs: int = -1) -> None:
    """Have a default that counts."""


def default_device(x: Any, *, device: str = "cuda") -> None:
    """Have a keyword's default that counts."""


def closing_over(rf: Any) -> Callable[[Any], Any]:
    def inner(x: Any) -> Any:
        return rf.predict(x)

    return inner


class Trainer:
    """Has a model."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def train(self, x: Any, other: Any = None) -> None:
        """Train it."""

    def __call__(self, x: Any) -> None:
        """Train it, too."""


CALLS: dict[str, tuple[Callable[..., object], tuple[object, ...], str | None]] = {
    "plain": (score, (1, "a"), None),
    "arrays": (score, (np.eye(3), np.ones(3)), None),
    "plain keyword": (partial(train, device="cpu"), (1, forest(None)), None),
    "argument": (train, (1, forest()), "model.n_jobs=-1"),
    "positional setting": (train, (1, None, -1), "n_jobs=-1"),
    "one more": (train, (1, None, 1, 2, forest()), "rest[1].n_jobs=-1"),
    "too many": (score, (1, 2, forest()), None),
    "keyword": (partial(train, n_jobs=-1), (1,), "n_jobs=-1"),
    "keyword of **options": (partial(train, rf=forest()), (1,), "rf.n_jobs=-1"),
    "keyword-only": (partial(train, device="cuda:0"), (1,), "device='cuda:0'"),
    "bound first": (partial(train, 1), (forest(),), "model.n_jobs=-1"),
    "bound twice": (partial(partial(train, 1), forest()), (), "model.n_jobs=-1"),
    "outer keyword wins": (partial(partial(train, n_jobs=-1), n_jobs=1), (1,), None),
    "default": (default_jobs, (1,), "n_jobs=-1"),
    "default not used": (default_jobs, (1, 1), None),
    "default overridden": (partial(default_jobs, n_jobs=1), (1,), None),
    "keyword's default": (default_device, (1,), "device='cuda'"),
    "closure": (closing_over(forest()), (1,), "rf.n_jobs=-1"),
    "plain closure": (closing_over(forest(None)), (1,), None),
    "lambda": ((lambda rf: lambda x: rf.predict(x))(forest()), (1,), "rf.n_jobs=-1"),
    "closure in a closure": (closing_over(closing_over(forest())), (1,), "rf.rf.n_jobs=-1"),
    "method": (Trainer(forest()).train, (1,), "self.model.n_jobs=-1"),
    "estimator's method": (pipeline(forest()).fit, (1,), "estimator.steps[1][1].n_jobs=-1"),
    "call of branches": (offloop.call(score, 1, {"b": offloop.units([forest().fit])}), (), "y['b'].calls[0].estimator.n_jobs=-1"),
    "step's parameter": (partial(train, rf__n_jobs=4), (1,), "rf__n_jobs=4"),
    "method's argument": (Trainer(None).train, (1, forest()), "other.n_jobs=-1"),
    "object": (Trainer(forest()), (1,), "self.model.n_jobs=-1"),
    "object's argument": (Trainer(None), (forest(),), "x.n_jobs=-1"),
    "function in C": (len, ([forest()],), "args[0][0].n_jobs=-1"),
    "method in C": ([forest()].count, (1,), "self[0].n_jobs=-1"),
    "class": (Trainer, (forest(),), "args[0].n_jobs=-1"),
    "keyword of one in C": (partial(max, [1], key=closing_over(forest())), (), "key.rf.n_jobs=-1"),
    "call": (offloop.call(train, 1, model=forest()), (), "model.n_jobs=-1"),
    "star": (offloop.star(score), ((1, forest()),), "y.n_jobs=-1"),
    "star with settings": (offloop.star(partial(train, 1)), ((None, 4),), "n_jobs=4"),
    "seeded": (Seeded(closing_over(forest()), 1), (1,), "rf.n_jobs=-1"),
    "Optuna": (partial(Trainer(None).train, n_jobs=4), (), "n_jobs=4"),
    "network": (score, (1, Net()), "y (torch.nn.modules.module.Module)"),
}


@pytest.mark.parametrize(("fn", "args", "expected"), CALLS.values(), ids=CALLS)
def test_calls(fn: Callable[..., object], args: tuple[object, ...], expected: str | None) -> None:
    """What a call works on is looked through, however it is bound, under the names of its parameters."""
    assert find_in_call(fn, args) == expected


def test_globals_are_not_looked_at() -> None:
    """A module that holds a model for somebody doesn't make all its functions parallel."""
    namespace: dict[str, Any] = {"model": forest()}
    exec("def f(x): return model.predict(x)", namespace)
    assert find_in_call(namespace["f"], (1,)) is None


def test_an_empty_cell() -> None:
    """A variable that has no value yet hides nothing."""

    def inner() -> Any:
        return later, rf

    rf = forest()
    assert find_in_call(inner, ()) == "rf.n_jobs=-1"
    later = 1


# --- no code is run --------------------------------------------------------------------------------------------------


class Ran(BaseException):
    """Code of a value was run; no handler of errors keeps it."""


def trap(*_: Any) -> Any:
    raise Ran


class HostileClass(type):
    """A class of classes with traps."""

    __hash__ = __eq__ = __getattribute__ = __instancecheck__ = __subclasscheck__ = trap  # type: ignore[assignment]


TRAPS = dict.fromkeys(
    (
        *("__getattribute__", "__getattr__", "__len__", "__iter__", "__getitem__", "__contains__", "__hash__"),
        *("__eq__", "__bool__", "__repr__", "__str__", "__format__", "__index__", "__int__", "__reduce_ex__"),
        *("__getstate__", "__dir__", "keys", "items", "values", "get_params", "__sklearn_tags__"),
    ),
    trap,
)
PROPERTIES = {name: property(trap) for name in ("n_jobs", "device", "__class__", "wraps_fn", "fn")}


def hostile(*bases: type, **namespace: Any) -> type:
    return HostileClass("Hostile", bases, {**TRAPS, **PROPERTIES, "__module__": __name__, **namespace})


def planted(cls: type) -> Any:
    """Return an instance with a forest among its attributes."""
    one = object.__new__(cls)
    for base in type.__dict__["__mro__"].__get__(cls):
        found = type.__dict__["__dict__"].__get__(base).get("__dict__")
        if type(found) is GetSetDescriptorType:
            found.__get__(one)["inside"] = forest()
            break
    return one


def test_hostile_objects() -> None:
    """Attributes are found behind traps in every special method, in properties and in the class of the class."""
    assert find_inner_parallelism(planted(hostile()), "m") == "m.inside.n_jobs=-1"
    assert find_in_call(score, (planted(hostile()),)) == "x.inside.n_jobs=-1"
    assert find_inner_parallelism([object.__new__(hostile())], "m") is None


def test_a_property_in_place_of_the_dictionary() -> None:
    """A ``__dict__`` that is code isn't run."""
    cls = hostile(__slots__=(), __dict__=property(trap))
    assert find_inner_parallelism(object.__new__(cls), "m") is None
    child = hostile(hostile(), __dict__=property(trap))
    assert find_inner_parallelism(planted(child), "m") == "m.inside.n_jobs=-1"


@pytest.mark.parametrize(
    ("base", "fill", "path"),
    [
        (list, lambda one: list.append(one, forest()), "m[0]"),
        (dict, lambda one: dict.__setitem__(one, "k", forest()), "m['k']"),
        (deque, lambda one: deque.append(one, forest()), "m[0]"),
    ],
)
def test_hostile_containers(base: type, fill: Callable[[Any], None], path: str) -> None:
    """Entries come from the built-in iterator, whatever a subclass makes of it."""
    one = base.__new__(hostile(base))
    fill(one)
    assert find_inner_parallelism(one, "m") == f"{path}.n_jobs=-1"


def test_hostile_keys_and_settings() -> None:
    """Keys are neither compared nor shown, and a setting that is no number is left alone."""
    odd = object.__new__(hostile(__hash__=lambda self: 1))
    assert find_inner_parallelism({odd: forest()}, "m") == "m[…].n_jobs=-1"
    assert find_inner_parallelism({"n_jobs": odd, "device": odd}, "m") is None
    assert find_inner_parallelism(made(XGB, n_jobs=odd), "m") == "m.n_jobs=None"


def test_a_hostile_callable() -> None:
    """A callable is looked at without being asked for its name, its signature or its wrapper."""
    called = fake(__name__, "Called", __call__=fit, __getattribute__=trap)
    one = object.__new__(called)
    object.__setattr__(one, "rf", forest())
    assert find_in_call(one, (1,)) == "self.rf.n_jobs=-1"


def test_odd_modules() -> None:
    """A class whose module is no text is a class like any other."""
    cls = type("Odd", (), {"__module__": property(trap)})
    assert find_inner_parallelism(made(cls, n_jobs=2), "m") == "m.n_jobs=2"


# --- bounds ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The classes of the parts that were looked into, in order."""
    classes: list[type] = []
    kind_of = inner_parallelism._kind_of

    def noting(cls: type) -> Any:
        classes.append(cls)
        return kind_of(cls)

    monkeypatch.setattr(inner_parallelism, "_kind_of", noting)
    return classes


class Counting:
    """Counts how many of its values were taken."""

    def __init__(self) -> None:
        self.taken = 0

    def __iter__(self) -> Iterator[int]:
        for i in range(1000):
            self.taken += 1
            yield i


def test_plain_values_are_not_looked_into(visited: list[type]) -> None:
    """Numbers and texts cost no search, nor do calls with nothing else; long plain lists cost one part."""
    assert find_inner_parallelism(1, "m") is None
    assert find_inner_parallelism("a", "m") is None
    assert find_in_call(score, (1, "a")) is None
    assert visited == []
    assert find_inner_parallelism(list(range(100_000)), "m") is None
    assert visited == [list]


def test_foreign_iterators_are_left_alone(visited: list[type]) -> None:
    """What has to be consumed to be seen isn't."""
    source = Counting()
    generator = iter(source)
    assert find_inner_parallelism([source, generator], "m") is None
    assert source.taken == 0
    assert list(generator) == list(range(1000))


@pytest.mark.parametrize(
    "value",
    [
        [[i] for i in range(100_000)],
        {i: [i] for i in range(100_000)},
        [[[[i, str(k)] for i in range(50)] for k in range(50)] for _ in range(50)],
        [Settings(Settings(Slotted())) for _ in range(1000)],
    ],
    ids=["list", "dict", "nested", "objects"],
)
def test_large_values(value: object, visited: list[type]) -> None:
    """No more than 200 parts are looked into, however many there are."""
    assert find_inner_parallelism(value, "m") is None
    assert 1 < len(visited) <= 200


def test_large_data_hides_no_neighbour() -> None:
    """The nearest come first, so that a model beside a mountain of data is found."""
    rows = [{"a": [i], "b": [[i]]} for i in range(100_000)]
    assert find_in_call(score, (rows, pipeline(forest()))) == "y.steps[1][1].n_jobs=-1"


def test_deep_nesting(visited: list[type]) -> None:
    """12 levels are looked into, and no more."""

    def nested(depth: int) -> list[Any]:
        value: list[Any] = [forest()]
        for _ in range(depth):
            value = [value]
        return value

    assert find_inner_parallelism(nested(10), "m") == f"m{'[0]' * 11}.n_jobs=-1"
    assert find_inner_parallelism(nested(12), "m") is None
    visited.clear()
    assert find_inner_parallelism(nested(10_000), "m") is None
    assert len(visited) == 13


def test_cycles(visited: list[type]) -> None:
    """A part that leads back to one already seen is looked into once."""
    ring: list[Any] = []
    ring.append(ring)
    settings = Settings({"ring": ring})
    ring.append(settings)
    settings.n_jobs = ring
    assert find_inner_parallelism(ring, "m") is None
    assert visited == [list, Settings, dict]


def test_classes_are_remembered_within_bounds() -> None:
    """Classes made in a loop don't pile up."""
    for _ in range(inner_parallelism._MAX_KINDS + 10):
        find_inner_parallelism(type("Passing", (), {})(), "m")
    assert 0 < len(inner_parallelism._kinds) <= inner_parallelism._MAX_KINDS

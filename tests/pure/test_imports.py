"""sensing/imports.py: how much a worker would import before it can run a function."""

from __future__ import annotations

import functools
import json
import math
import subprocess
from collections.abc import Callable
from types import FunctionType, ModuleType
from typing import Any, NoReturn

import pytest

from offloop.functions import star
from offloop.sensing import imports
from offloop.sensing.imports import MODULE_S, import_s

Modules = dict[str, ModuleType]


def module(name: str, modules: Modules, **names: Any) -> ModuleType:
    """Make a module with these names in it, and have it imported."""
    made = modules[name] = ModuleType(name)
    vars(made).update(names)
    return made


def function(home: str, modules: Modules | None = None, source: str = "None", **names: Any) -> Any:
    """Return a function of this module, which evaluates a line of source; the module is there from then on."""
    names["__name__"] = home
    namespace: Any = names if modules is None else vars(module(home, modules, **names))
    code = compile(f"def work(item): return {source}", home, "exec")
    exec(code, namespace)
    return namespace["work"]


def package(name: str, n: int, modules: Modules) -> ModuleType:
    """Make a package of n modules, itself included."""
    for i in range(1, n):
        module(f"{name}.part{i}", modules)
    return module(name, modules)


def count(fn: Any, modules: Modules) -> int:
    """Return how many modules count for a function."""
    return round(import_s(fn, modules) / MODULE_S)


@pytest.fixture
def modules() -> Modules:
    """Return imported modules: some of the standard library, and packages that nobody has referred to yet."""
    made: Modules = {"json": json, "math": math, "subprocess": subprocess}
    package("heavy", 100, made)
    package("light", 3, made)
    return made


def closing_over(fn: Any, value: Any) -> Callable[[], Any]:
    """Return a function that has these in its closure."""
    return lambda: fn(value)


# --- what counts -----------------------------------------------------------------------------------------------------


def test_each_module_takes_a_millisecond(modules: Modules) -> None:
    """The estimate is a millisecond for each module that counts."""
    fn = function("app", modules, heavy=modules["heavy"])
    assert pytest.approx(0.001) == MODULE_S
    assert import_s(fn, modules) == pytest.approx(0.101)


@pytest.mark.parametrize("fn", [math.sqrt, json.dumps, sorted, str.upper, dict, functools.partial, object()])
def test_the_standard_library_counts_for_nothing(fn: Any, modules: Modules) -> None:
    """What comes with Python takes no time, whatever its modules lead to."""
    assert import_s(fn, modules) == 0


def test_standard_modules_in_a_users_module_count_for_nothing(modules: Modules) -> None:
    """Of a user's module that refers to the standard library alone, only itself counts."""
    fn = function("app", modules, json=json, dumps=json.dumps, Popen=subprocess.Popen, pi=math.pi, names={}, nothing=None)
    assert count(fn, modules) == 1


@pytest.mark.parametrize(
    "part",
    [
        lambda modules: modules["heavy"],
        lambda modules: modules["heavy.part7"],
        lambda modules: function("heavy.part3"),
        lambda modules: type("Model", (), {"__module__": "heavy.part9"}),
        lambda modules: type("Model", (), {"__module__": "heavy.part9"})(),  # an instance, a fitted model say
    ],
    ids=["package", "module", "function", "class", "instance"],
)
def test_all_of_a_package_counts(part: Callable[[Modules], Any], modules: Modules) -> None:
    """Of a package that a user's module refers to, by whatever it has of it, all imported modules count."""
    fn = function("app", modules, part=part(modules))
    assert count(fn, modules) == 1 + 100


def test_a_package_counts_once(modules: Modules) -> None:
    """However often a package is referred to, and by however many, its modules count once."""
    parts = {f"part{i}": modules[f"heavy.part{i}"] for i in range(1, 9)}
    fn = function("app", modules, heavy=modules["heavy"], light=modules["light"], **parts)
    assert count(fn, modules) == 1 + 100 + 3


def test_what_nobody_refers_to_does_not_count(modules: Modules) -> None:
    """Packages of this process that the function's module doesn't lead to take a worker no time."""
    package("heavyweight", 50, modules)  # no part of heavy
    assert count(function("app", modules, heavy=modules["heavy"]), modules) == 101
    assert count(function("other", modules), modules) == 1


def test_a_users_package_counts_too(modules: Modules) -> None:
    """The user's own modules are imported in a worker as well."""
    for name in ("app", "app.models", "app.views"):
        module(name, modules)
    assert count(function("app.jobs", modules), modules) == 4


def test_users_modules_lead_on(modules: Modules) -> None:
    """What the user's own modules lead to counts, over any number of them, and also where they refer to each other."""
    last = module("pipeline", modules, heavy=modules["heavy"])
    middle = module("features", modules, pipeline=last)
    fn = function("app", modules, transform=function("features", None), light=modules["light"])
    vars(last)["app"] = modules["app"]
    assert vars(middle)["pipeline"] is last
    assert count(fn, modules) == 3 + 100 + 3


def test_packages_lead_on(modules: Modules) -> None:
    """What a package is built on counts with it."""
    vars(modules["light"])["heavy"] = modules["heavy"]
    assert count(function("app", modules, light=modules["light"]), modules) == 1 + 3 + 100


def test_workers_have_offloop_and_cloudpickle(modules: Modules) -> None:
    """What every worker has anyway takes no time."""
    parts = {name: package(name, 30, modules) for name in ("offloop", "cloudpickle")}
    assert count(function("app", modules, **parts), modules) == 1
    assert count(function("offloop.functions", modules, heavy=modules["heavy"]), modules) == 0


def test_what_is_not_imported_here_is_not_known(modules: Modules) -> None:
    """A module that this process has not imported counts for nothing, and neither does a place that is none."""
    assert count(function("gone"), modules) == 0
    modules["blocked"] = None  # type: ignore[assignment]  # as an import that is to fail has it
    assert count(function("blocked"), modules) == 1
    assert count(function("app", modules, part=type("Odd", (), {"__module__": 7})()), modules) == 1


def test_by_default_the_modules_of_this_process_count() -> None:
    """Without modules of one's own, those of this process are taken: this one leads to pytest."""
    assert import_s(count) > 10 * MODULE_S
    assert import_s(math.sqrt) == 0


# --- code that travels -----------------------------------------------------------------------------------------------


def test_a_function_of_main_takes_what_it_refers_to(modules: Modules) -> None:
    """The code of a script's function travels with it, and only what it refers to is imported for it."""
    parts = {"heavy": modules["heavy"], "light": modules["light"]}
    assert count(function("__main__", modules, "light.part1", **parts), modules) == 3
    assert count(function("__main__", modules, "heavy(light)", **parts), modules) == 103
    assert count(function("__main__", modules, "item", **parts), modules) == 0
    assert count(function("__main__", modules, "missing(json)", json=json, **parts), modules) == 0


def test_a_script_leads_to_the_users_modules(modules: Modules) -> None:
    """A script's function that calls one of a user's module takes that module and what it leads to."""
    helper = function("app", modules, heavy=modules["heavy"])
    assert count(function("__main__", modules, "helper(item)", helper=helper), modules) == 101


def test_functions_of_a_script_lead_nowhere_else(modules: Modules) -> None:
    """Of a script as a module nothing counts: workers don't import it."""
    other = function("__main__", None, "light", light=modules["light"])
    fn = function("__main__", modules, "other(item)", other=other, heavy=modules["heavy"])
    assert count(fn, modules) == 0


def test_a_class_counts_like_a_function(modules: Modules) -> None:
    """A class, an instance and a function of a module count alike, and what says of no module counts for nothing."""
    module("app", modules, heavy=modules["heavy"])
    model = type("Model", (), {"__module__": "app"})
    assert count(model, modules) == count(model(), modules) == 101
    homeless = FunctionType((lambda item: item).__code__, {})
    homeless.__module__ = None  # type: ignore[assignment]
    assert count(homeless, modules) == 0


@pytest.mark.parametrize("bind", ["partial", "data", "keyword", "method", "closure", "star"])
def test_what_is_bound_in_a_function_comes_with_it(bind: str, modules: Modules) -> None:
    """A model in a partial, a closure or a method is imported with the function that it is bound in."""
    plain = function("app", modules)
    model = type("Model", (), {"__module__": "heavy.part9", "predict": plain})()
    bound = {
        "partial": functools.partial(functools.partial(plain, model), 1),
        "data": functools.partial(plain, modules["heavy"]),
        "keyword": functools.partial(plain, model=model),
        "method": model.predict,
        "closure": closing_over(plain, model),
        "star": star(functools.partial(plain, model)),
    }
    assert count(bound[bind], modules) == 101


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_the_look_is_bounded(modules: Modules) -> None:
    """No more than 64 modules are looked into, however many lead to each other."""
    for i in reversed(range(500)):
        module(f"link{i}", modules, after=modules.get(f"link{i + 1}"))
    fn = function("app", modules, link=modules["link0"])
    assert imports._MAX_MODULES == 64
    assert count(fn, modules) <= 66
    assert count(fn, modules) >= 60


@pytest.mark.parametrize("is_first", [True, False])
def test_near_modules_are_looked_into_before_far_ones(is_first: bool, modules: Modules) -> None:
    """A package whose modules all lead to each other doesn't use up the look before the user's own modules had theirs."""
    for name, part in modules.items():
        if name.startswith("heavy"):
            vars(part).update({key.replace(".", "_"): value for key, value in modules.items() if key.startswith("heavy")})
    models = module("models", modules, light=modules["light"])
    parts = {"models": models, "heavy": modules["heavy"]}
    fn = function("app", modules, **(parts if is_first else dict(reversed(parts.items()))))
    assert count(fn, modules) == 2 + 100 + 3


# --- nobody's code runs ----------------------------------------------------------------------------------------------


ran: list[str] = []


def bad(*args: object) -> NoReturn:
    """Note that this was called, and fail."""
    ran.append(repr(args[1:]))
    raise AssertionError("code of the user's has run")


class Asked:
    """Fails when it is asked for any attribute."""

    __getattribute__ = __getattr__ = __call__ = bad  # type: ignore[assignment]


class Disguised:
    """Fails when it is asked what it is."""

    __class__ = property(bad)  # type: ignore[assignment]
    __call__ = bad


class Placeless:
    """Fails when it is asked where it is from."""

    __module__ = property(bad)  # type: ignore[assignment]
    __call__ = bad


class Meta(type):
    """Fails when a class is asked for anything."""

    __getattribute__ = __instancecheck__ = __subclasscheck__ = __hash__ = __eq__ = bad  # type: ignore[assignment]


class Kept(metaclass=Meta):
    """Has a class that fails."""


class Lazy(ModuleType):
    """A module that is imported when it is first asked for anything."""

    __getattribute__ = __getattr__ = bad  # type: ignore[assignment]


def asking() -> ModuleType:
    """Return a module that fails when it is asked for a name that it hasn't."""
    made = ModuleType("asking")
    vars(made)["__getattr__"] = bad
    del vars(made)["__name__"]
    return made


HOSTILE: dict[str, Callable[[], Any]] = {
    "any attribute": Asked,
    "class": Disguised,
    "module": Placeless,
    "class of the class": lambda: object.__new__(Kept),
    "a class itself": lambda: Kept,
    "lazy module": lambda: Lazy("lazy"),
    "module without a name": asking,
}


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nobodys_code_runs(hostile: str, modules: Modules) -> None:
    """Looking at what a function leads to asks nothing of it that could run code: no property, hook or import."""
    value = HOSTILE[hostile]()
    ran.clear()
    fn = function("app", modules, value=value, heavy=modules["heavy"])
    assert count(fn, modules) >= 101
    assert import_s(function("__main__", None, "value", value=value), modules) >= 0
    assert not ran


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_callable_is_not_asked_either(hostile: str, modules: Modules) -> None:
    """A callable of any kind in place of a function runs no code."""
    value = HOSTILE[hostile]()
    ran.clear()
    assert import_s(value, modules) >= 0
    assert not ran


def test_a_lazy_module_stays_as_it_is(modules: Modules) -> None:
    """A module that is imported when it is first looked into is not looked into by name either."""
    modules["lazy"] = Lazy("lazy")
    ran.clear()
    assert count(function("app", modules, part=type("Part", (), {"__module__": "lazy"})), modules) == 2
    assert not ran

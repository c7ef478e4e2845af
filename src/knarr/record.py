"""Frozen records: what `dataclasses` offers us, made at a tenth of the cost of start-up.

A cold `knarr build` meets some 150 record classes. `@dataclass(frozen=True,
slots=True)` takes 0.5 to 1 ms for each, since it compiles six methods and makes the
class twice, and importing `dataclasses` takes 8 ms more (it brings `inspect`); here
only `__init__` is compiled, for classes of which many are made, and the other
methods are shared. Measured on the whole of a cold build:
docs/decisions/0002-records.md. Type checkers see ordinary dataclasses
(`dataclass_transform`, PEP 681).

    @record
    class Point:
        x: int
        y: int = 0

    replace(Point(1), y=2)  # Point(x=1, y=2)
"""

from __future__ import annotations

from _operator import attrgetter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar, dataclass_transform

    T = TypeVar("T")
else:

    def dataclass_transform(**_):
        """At run time the transform is only a mark."""
        return lambda decorator: decorator


_MISSING: Any = object()
_FEW = 40  # records by hand take 2 µs more each, compiling takes 100


class _Field:
    """A field with more to say than a default."""

    __slots__ = ("by_keyword", "default", "factory", "hash", "repr")

    def __init__(self, default: Any, factory: Any, hash: bool, repr: bool, by_keyword: bool) -> None:
        self.default, self.factory, self.hash, self.repr = default, factory, hash, repr
        self.by_keyword = by_keyword


def field(
    *,
    default: Any = _MISSING,
    default_factory: Callable[[], Any] | None = None,
    hash: bool = True,
    repr: bool = True,
    kw_only: bool = False,
) -> Any:
    """Say of a field how its default is made, whether it counts for `hash`, shows in `repr`, is given by name only."""
    return _Field(default, default_factory, hash, repr, kw_only)


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def record(cls: Any = None, /, *, kw_only: bool = False) -> Any:
    """Make a class a frozen record with slots; its fields are its annotations, in order, after those of its bases.

    With `kw_only` the fields of this class (not of its bases) are given by name.
    """
    if cls is None:
        return lambda wanted: _made(wanted, kw_only=kw_only)
    return _made(cls, kw_only=kw_only)


def _made(cls: Any, *, kw_only: bool) -> Any:
    inherited: dict[str, _Field] = {}
    for base in reversed(cls.__mro__[1:]):
        inherited.update(base.__dict__.get("_fields_", {}))
    namespace = dict(cls.__dict__)
    annotated = [name for name, kind in namespace.get("__annotations__", {}).items() if "ClassVar" not in str(kind)]
    own = {name: _field_of(namespace.pop(name, _MISSING)) for name in annotated}
    for about in own.values():
        about.by_keyword = about.by_keyword or kw_only
    fields = {**inherited, **own}
    for unwanted in ("__dict__", "__weakref__", *own):
        namespace.pop(unwanted, None)
    namespace["__slots__"] = tuple(name for name in own if name not in inherited)
    namespace["__match_args__"] = tuple(fields)
    namespace["_fields_"] = fields
    namespace["_key_"] = attrgetter(*fields) if fields else _nothing
    hashed = [name for name, about in fields.items() if about.hash]
    namespace["_hash_key_"] = attrgetter(*hashed) if hashed else _nothing
    for name, method in _METHODS.items():
        namespace.setdefault(name, method)
    if "__hash__" not in cls.__dict__ or cls.__dict__["__hash__"] is None:
        namespace["__hash__"] = _hash
    made: Any = type(cls)(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    if "__init__" not in cls.__dict__:
        made.__init__ = _by_hand(made, fields)
    return made


def _by_hand(cls: Any, fields: dict[str, _Field]) -> Any:
    """An `__init__` for the first `_FEW` records of a class, which then puts the compiled one in its place."""
    made = 0

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal made
        made += 1
        values = _assigned(fields, args, kwargs) if made <= _FEW else None
        if values is None:  # the compiled one also says what is wrong with the arguments
            cls.__init__ = _initialiser(cls, fields)
            cls.__init__(self, *args, **kwargs)
            return
        for name, value in zip(fields, values, strict=True):
            object.__setattr__(self, name, value)
        if hasattr(cls, "__post_init__"):
            self.__post_init__()

    return __init__


def _assigned(fields: dict[str, _Field], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
    """The value of each field, None when the arguments are not those of a call that can succeed."""
    values: list[Any] = []
    at = named = 0
    for name, about in fields.items():
        if at < len(args) and not about.by_keyword:
            if name in kwargs:
                return None
            values.append(args[at])
            at += 1
        elif name in kwargs:
            values.append(kwargs[name])
            named += 1
        elif about.factory is not None:
            values.append(about.factory())
        elif about.default is not _MISSING:
            values.append(about.default)
        else:
            return None
    return values if at == len(args) and named == len(kwargs) else None


def _field_of(value: Any) -> _Field:
    return value if isinstance(value, _Field) else _Field(value, None, True, True, False)


def _nothing(_: object) -> tuple[()]:
    return ()


def _initialiser(cls: Any, fields: dict[str, _Field]) -> Any:
    """`__init__(self, …)`, compiled once: slots are set through their descriptors, past `__setattr__`."""
    parameters = ["self"]
    named: list[str] = []
    body: list[str] = []
    scope: dict[str, Any] = {}
    for name, about in fields.items():
        given = named if about.by_keyword else parameters
        scope[f"_set_{name}"] = getattr(cls, name).__set__
        if about.factory is not None:
            scope[f"_make_{name}"], scope["_missing"] = about.factory, _MISSING
            given.append(f"{name}=_missing")
            body.append(f"_set_{name}(self, _make_{name}() if {name} is _missing else {name})")
        else:
            if about.default is not _MISSING:
                scope[f"_default_{name}"] = about.default
                given.append(f"{name}=_default_{name}")
            else:
                given.append(name)
            body.append(f"_set_{name}(self, {name})")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    if named:
        parameters += ["*", *named]
    source = f"def __init__({', '.join(parameters)}):\n " + "\n ".join(body or ["pass"])
    exec(source, scope)
    return scope["__init__"]


def replace(value: T, /, **changes: Any) -> T:
    """A copy of a record with some fields changed.

    Raises:
        TypeError: a change names no field.
    """
    cls: Any = type(value)
    names = cls.__match_args__
    return cls(**{name: getattr(value, name) for name in names} | changes)  # type: ignore[no-any-return]


def fields(value: Any) -> tuple[str, ...]:
    """The names of the fields of a record or of a record class, in order."""
    names: tuple[str, ...] = value.__match_args__
    return names


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name, about in self._fields_.items() if about.repr)
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    key = self.__class__._key_
    return key(self) == key(other)


def _hash(self: Any) -> int:
    return hash(self.__class__._hash_key_(self))


def _setattr(self: Any, name: str, value: object) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be set; use replace()")


def _delattr(self: Any, name: str) -> None:
    raise AttributeError(f"{type(self).__name__} is frozen: {name!r} cannot be deleted")


def _reduce(self: Any) -> Any:
    return _rebuilt, (type(self), {name: getattr(self, name) for name in type(self).__match_args__})


def _rebuilt(cls: Any, values: dict[str, Any]) -> Any:
    return cls(**values)


_METHODS: dict[str, Any] = {
    "__repr__": _repr,
    "__eq__": _eq,
    "__setattr__": _setattr,
    "__delattr__": _delattr,
    "__reduce__": _reduce,
}

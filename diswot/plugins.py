"""Parts of your own: `module:name` stands wherever a built-in name may stand.

One rule for search spaces, teachers, proxies, losses, data sources and evolution strategies, whether the name comes from the command
line, a YAML file or Python. The module is looked for as Python looks for any (PYTHONPATH, installed packages), and last in the current
folder. Importing runs code: a name that was read out of a file that someone else may have written (an arch.json) is imported only where
the user says it again.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

from diswot.errors import ConfigError, brief_repr, first_line, suggest

P = TypeVar("P")
_LOADED: dict[str, str] = {}  # by source file of a module that a part came from, what the part is: "strategy mylab:Annealing"
_INSTALLED = {"site-packages", "dist-packages"}  # folders of what was installed; a virtual environment may lie beside a part
_OURS = {"diswot", "search_spaces"}
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_reference(name: str) -> bool:
    """Whether a name has the form `module:name`.

    >>> is_reference("mylab.losses:Mine"), is_reference("resnet56"), is_reference("timm/vgg13")
    (True, False, False)
    """
    return _REFERENCE.fullmatch(name) is not None


def find_references(text: str) -> list[str]:
    """Every `module:name` in a text, which may be an expression.

    >>> find_references("kd + 0.5*mylab:Mine(beta=2)"), find_references("resnet56")
    (['mylab:Mine'], [])
    """
    return _REFERENCE.findall(text)


def load_object(reference: str, kind: str, *, trusted: bool = True) -> Any:
    """Import what `module:name` names.

    Args:
        reference: a dotted module, a colon, and a name in it.
        kind: what it is wanted for, as an error message and the flag that allows it have it: `space`, `teacher`, `loss`, ...
        trusted: False for a name that comes out of a file and that the user has not said.

    Raises:
        ConfigError: it may not be imported, cannot be imported, or the module has no such name.

    >>> load_object("math:pi", "teacher")
    3.141592653589793
    >>> load_object("math:phi", "teacher")
    Traceback (most recent call last):
    diswot.errors.ConfigError: the teacher 'math:phi': the module math has no 'phi': did you mean pi?
    """
    if not trusted:
        raise ConfigError(f"the {kind} {brief_repr(reference)} is Python code that a file names: allow it with --{kind} {reference:.60}")
    if not is_reference(reference):
        raise ConfigError(f"the {kind} {brief_repr(reference)}: write module:name for one of your own")
    module_name, _, attribute = reference.partition(":")
    if not {"", str(Path.cwd())} & set(sys.path):
        sys.path.append(str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module of the user's may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        remedy = ": is its folder on PYTHONPATH?" if isinstance(error, ModuleNotFoundError) else ""
        raise ConfigError(f"the {kind} {reference!r} cannot be imported ({reason}){remedy}") from None
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise ConfigError(f"the {kind} {reference!r}: the module {module_name} has no {attribute!r}: {suggest(attribute, public)}"[:300])
    if source := getattr(module, "__file__", None):
        _LOADED.setdefault(source, f"{kind} {reference}")
    return getattr(module, attribute)


def part_at_fault(error: BaseException) -> str:
    """The part of the user's own in whose code an exception was raised, in this process or in another, with the line; "" where in none.

    >>> part_at_fault(ValueError("not in a part"))
    ''
    """
    frames = _FRAME.findall("".join(traceback.format_exception(error)))
    file, line = next(((file, line) for file, line in reversed(frames) if file in _LOADED), ("", ""))
    return f"{_LOADED[file]} (line {line} of {Path(file).name})" if file else ""


def load_part(reference: str, kind: str, contract: type[P], *, trusted: bool = True) -> P:
    """The part that `module:name` names: an instance of the contract, or a subclass of it, which is then called without arguments, once.

    Raises:
        ConfigError: as `load_object`; or it is nothing of the kind.
    """
    found = load_object(reference, kind, trusted=trusted)
    if isinstance(found, type) and issubclass(found, contract):
        try:
            found = cast(P, _only_instance(cast(Any, found)))
        except Exception as error:  # it is the user's own code
            reason = f"{type(error).__name__}: {first_line(error)}"
            raise ConfigError(f"the {kind} {reference!r} cannot be made by calling it without arguments ({reason})") from None
    if not isinstance(found, contract):
        what = found.__name__ if isinstance(found, type) else type(found).__name__
        raise ConfigError(f"the {kind} {reference!r} is {what}, which is no subclass of {contract.__module__}.{contract.__qualname__}")
    return found


def code_digests(*names: str) -> dict[str, str]:
    """Return the digest of the source of each name that is `module:name`: the first 12 hexadecimal digits of its SHA-256.

    The source is that of the module, and of the modules beside it, or in folders below, that it imports at its top level.

    >>> list(code_digests("resnet56", "json:loads"))
    ['json:loads']
    """
    digests = {}
    for name in filter(is_reference, names):
        part = load_object(name, "part")
        found = part if inspect.isclass(part) or inspect.isroutine(part) else type(part)
        files = sorted(_sources(sys.modules[name.partition(":")[0]]) | {inspect.getfile(found)})
        digests[name] = hashlib.sha256(b"\0".join(Path(file).read_bytes() for file in files)).hexdigest()[:12]
    return digests


def _sources(module: ModuleType) -> set[str]:
    """The source files of a module and of those that its names come from, as far as they lie in its folder and are nobody else's."""
    own = getattr(module, "__file__", None)
    if own is None or Path(own).parent.name in _INSTALLED:
        return set() if own is None else {own}
    folder, found, left = Path(own).parent, set[str](), [module]
    while left:
        current = left.pop()
        file = getattr(current, "__file__", None)
        if file is None or file in found or not Path(file).is_relative_to(folder) or current.__name__.split(".")[0] in _OURS:
            continue
        if not _INSTALLED & set(Path(file).relative_to(folder).parts):
            found.add(file)
            left += filter(None, map(_module_of, vars(current).values()))
    return found


def _module_of(value: Any) -> ModuleType | None:
    """The module that a value is, or that it was defined in."""
    name = getattr(value, "__module__", None)
    return value if inspect.ismodule(value) else sys.modules.get(name) if isinstance(name, str) else None


@functools.cache
def _only_instance(part: Callable[[], Any]) -> Any:
    """A part keeps what it has worked out from one use to the next."""
    return part()


def check_names(part: str, attribute: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Refuse what a part declares where it is not known.

    Raises:
        ConfigError: names the first unknown value and the nearest known one.

    >>> check_names("proxy mylab:Mine", "needs", {"label"}, ["labels", "teacher"])
    Traceback (most recent call last):
    diswot.errors.ConfigError: proxy mylab:Mine: needs 'label': did you mean labels?
    """
    if isinstance(given, str):
        raise ConfigError(f"{part}: {attribute} {given!r} is one text; write a set of names, {{{given!r}}}")
    names = set(known)
    for name in sorted(given):
        if name not in names:
            raise ConfigError(f"{part}: {attribute} {name!r}: {suggest(str(name), names)}")

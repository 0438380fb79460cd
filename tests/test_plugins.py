"""Parts of one's own by `module:name`, and the registries of parts by name."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import diswot
from diswot import plugins
from diswot.architecture import Architecture
from diswot.data import load_data
from diswot.errors import ConfigError, DiswotError
from diswot.losses import LOSSES, create
from diswot.losses.base import Loss
from diswot.models.teachers import build_teacher
from diswot.proxies import PROXIES, get_proxy
from diswot.proxies.base import FunctionProxy, Proxy
from diswot.registry import Registry
from diswot.searching.strategies import STRATEGIES
from diswot.space import ImageSpec, load_space
from tests.own_modules import write_module

Write = Callable[[str], str]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Writes an importable module and gives its name."""
    monkeypatch.syspath_prepend(tmp_path / "library")
    return lambda source: write_module(tmp_path / "library", source)


# references


@pytest.mark.parametrize("name", ["mylab:Mine", "mylab.deep.er:mine", "_a:_b", "a1:b2"])
def test_a_module_and_a_name_are_a_reference(name: str) -> None:
    assert plugins.is_reference(name)


@pytest.mark.parametrize("name", ["", ":", "a:", ":b", "a b:c", "a:b:c", "a:b.c", "1a:b", "a:1b", "resnet56", "timm/vgg13", "loss:kd\n"])
def test_anything_else_is_none(name: str) -> None:
    assert not plugins.is_reference(name)


def test_what_is_no_reference_is_not_imported() -> None:
    with pytest.raises(ConfigError, match=r"^the loss 'os\.path': write module:name for one of your own$"):
        plugins.load_object("os.path", "loss")


def test_a_name_out_of_a_file_is_refused_and_not_imported(tmp_path: Path, module: Write) -> None:
    name = module(f"open({str(tmp_path / 'imported')!r}, 'w').close()\npart = 1\n")
    with pytest.raises(ConfigError, match=f"^the space '{name}:part' is Python code that a file names: allow it with --space {name}:part$"):
        plugins.load_object(f"{name}:part", "space", trusted=False)
    assert not (tmp_path / "imported").exists() and name not in sys.modules
    assert plugins.load_object(f"{name}:part", "space") == 1
    assert (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def net(:", r"SyntaxError: .*\)"),
        ("1 / 0", r"ZeroDivisionError: division by zero\)"),
        ("raise ValueError('one\\ntwo')", r"ValueError: one\)"),
        (
            "import mylab_that_is_not_there",
            r"ModuleNotFoundError: No module named 'mylab_that_is_not_there'\): is its folder on PYTHONPATH\?",
        ),
        ("raise KeyError()", r"KeyError: KeyError\)"),
    ],
)
def test_a_module_that_fails_is_one_line_that_says_why(module: Write, source: str, reason: str) -> None:
    name = module(source)
    with pytest.raises(ConfigError, match=rf"^the teacher '{name}:net' cannot be imported \({reason}$") as caught:
        plugins.load_object(f"{name}:net", "teacher")
    assert "\n" not in str(caught.value)


def test_a_name_that_a_module_lacks_is_said_with_the_nearest(module: Write) -> None:
    name = module("class MyLoss: ...\n_hidden = 1\n")
    with pytest.raises(ConfigError, match=f"the module {name} has no 'MyLos': did you mean MyLoss"):
        plugins.load_object(f"{name}:MyLos", "loss")
    with pytest.raises(ConfigError, match=r"known: MyLoss$"):
        plugins.load_object(f"{name}:zzz", "loss")


def test_the_current_folder_is_looked_in_last(tmp_path: Path, module: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module on PYTHONPATH is not hidden by one of its name in the folder that a command happens to run in."""
    here, everywhere = tmp_path / "here", tmp_path / "library"
    name, only_here = module("where = 'library'\n"), write_module(here, "where = 'here'\n")
    (here / f"{name}.py").write_text("where = 'here'\n")
    monkeypatch.setattr(sys, "path", [str(everywhere), *(entry for entry in sys.path if entry not in ("", str(everywhere)))])
    monkeypatch.chdir(here)
    importlib.invalidate_caches()
    assert plugins.load_object(f"{name}:where", "teacher") == "library"
    assert plugins.load_object(f"{only_here}:where", "teacher") == "here"
    assert sys.path[-1] == str(here) and sys.path.count(str(here)) == 1


# parts


class Part:
    """A contract."""


PARTS = """
    from tests.test_plugins import Part
    class Mine(Part):
        made = 0
        def __init__(self): type(self).made += 1
    instance = Mine()
    class Needs(Part):
        def __init__(self, what): ...
    class Other: ...
    def function(): ...
"""


def test_a_class_is_made_once_and_an_instance_is_taken(module: Write) -> None:
    name = module(PARTS)
    part = plugins.load_part(f"{name}:Mine", "part", Part)
    assert isinstance(part, Part) and plugins.load_part(f"{name}:Mine", "part", Part) is part
    assert type(part).made == 2, "the module's own, and this one"  # type: ignore[attr-defined]
    assert plugins.load_part(f"{name}:instance", "part", Part) is sys.modules[name].instance


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("Needs", r"cannot be made by calling it without arguments \(TypeError"),
        ("Other", "is Other, which is no subclass of tests.test_plugins.Part"),
        ("function", "is function, which is no subclass of tests.test_plugins.Part"),
    ],
)
def test_what_is_no_part_of_the_kind_is_refused(module: Write, attribute: str, says: str) -> None:
    name = module(PARTS)
    with pytest.raises(ConfigError, match=f"^the part '{name}:{attribute}' {says}"):
        plugins.load_part(f"{name}:{attribute}", "part", Part)


def test_an_untrusted_part_is_refused(module: Write) -> None:
    name = module(PARTS)
    with pytest.raises(ConfigError, match="allow it with --part"):
        plugins.load_part(f"{name}:Mine", "part", Part, trusted=False)
    assert name not in sys.modules


def test_the_digest_of_a_part_is_that_of_its_file(tmp_path: Path, module: Write) -> None:
    name = module(PARTS)
    path = tmp_path / "library" / f"{name}.py"
    references = [f"{name}:{attribute}" for attribute in ("Mine", "instance", "function")]
    before = plugins.code_digests("resnet56", *references)
    assert list(before) == references and len(set(before.values())) == 1
    path.write_text(path.read_text() + "\n# changed\n")
    after = plugins.code_digests(*references)
    assert all(before[reference] != after[reference] for reference in references)


def test_declared_names_must_be_known() -> None:
    plugins.check_names("loss x", "needs", {"logits", "stages"}, ["logits", "stages", "norms"])
    with pytest.raises(ConfigError, match=r"^loss x: needs 'stage': did you mean stages"):
        plugins.check_names("loss x", "needs", {"logits", "stage"}, ["logits", "stages"])
    with pytest.raises(ConfigError, match=r"^loss x: needs 'logits' is one text; write a set of names, \{'logits'\}$"):
        plugins.check_names("loss x", "needs", "logits", ["logits"])


# registries


def test_a_registry_is_a_mapping_in_the_order_of_registration() -> None:
    shapes = Registry[str]("shape")
    for name in ("square", "circle"):
        assert shapes.register(name)(name.upper()) == name.upper()
    assert list(shapes) == ["square", "circle"] and len(shapes) == 2 and "circle" in shapes and "oval" not in shapes
    assert dict(shapes.items()) == {"square": "SQUARE", "circle": "CIRCLE"}
    assert shapes["square"] == "SQUARE" and shapes.name_of(shapes["square"]) == "square" and shapes.name_of("OVAL") is None


def test_a_name_that_is_taken_is_refused() -> None:
    shapes = Registry[str]("shape")
    shapes.register("square")("first")
    with pytest.raises(ValueError, match="the shape 'square' is registered already"):
        shapes.register("square")("second")
    assert shapes["square"] == "first"


def test_unknown_names_suggest_the_nearest() -> None:
    shapes, open_shapes = Registry[str]("shape"), Registry[str]("shape", load=str)
    for registry in (shapes, open_shapes):
        registry.register("square")("s")
    with pytest.raises(ConfigError, match=r"^unknown shape 'sqare': did you mean square\?$"):
        _ = shapes["sqare"]
    with pytest.raises(ConfigError, match=r"^unknown shape 'zzz': known: square$"):
        _ = shapes["zzz"]
    with pytest.raises(ConfigError, match=r"^unknown shape 'sqare': did you mean square\?; module:name for one of your own$"):
        _ = open_shapes["sqare"]
    with pytest.raises(ConfigError, match="unknown shape 'a:b'"):
        _ = shapes["a:b"]


def _refuse_odd(name: str, item: int) -> None:
    if item % 2:
        raise ConfigError(f"{name} is odd")


def test_what_is_declared_is_checked_before_it_is_taken_up() -> None:
    numbers = Registry[int]("number", load=lambda reference: len(reference), check=_refuse_odd)
    with pytest.raises(ConfigError, match="three is odd"):
        numbers.register("three")(3)
    assert "three" not in numbers and not len(numbers)
    for _ in range(2):  # asked for again it is refused again
        with pytest.raises(ConfigError, match="a:b is odd"):
            _ = numbers["a:b"]
    assert numbers.loaded() == []
    assert numbers["aa:b"] == 4 and numbers.loaded() == ["aa:b"] and numbers.name_of(4) == "aa:b"
    assert "aa:b" not in numbers, "only what is registered is listed"


def test_a_part_of_ones_own_is_loaded_once() -> None:
    asked: list[str] = []
    shapes = Registry[str]("shape", load=lambda reference: asked.append(reference) or reference)  # type: ignore[func-returns-value]
    assert shapes["a:b"] == shapes["a:b"] == "a:b" and asked == ["a:b"]


def test_a_part_under_test_is_known_inside_alone() -> None:
    shapes = Registry[str]("shape", check=lambda name, item: None)
    with pytest.raises(RuntimeError), shapes.registered("oval", "OVAL") as item:
        assert item == shapes["oval"] == "OVAL"
        raise RuntimeError
    assert "oval" not in shapes


# the registries there are


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: load_space("resnet_dept"), "unknown space 'resnet_dept': did you mean resnet_depth.*module:name for one of your own"),
        (lambda: PROXIES["nwott"], "unknown proxy 'nwott': did you mean nwot.*module:name for one of your own"),
        (lambda: get_proxy("loss:kdd"), "unknown loss 'kdd': did you mean kd"),
        (lambda: create("kdd"), "unknown loss 'kdd': did you mean kd.*module:name for one of your own"),
        (lambda: STRATEGIES["evolutoin"], "unknown strategy 'evolutoin': did you mean evolution.*module:name for one of your own"),
        (lambda: build_teacher("resnet65", ImageSpec(10, 3, 32)), "unknown teacher 'resnet65': did you mean resnet"),
        (
            lambda: load_data("syntetic"),
            "'syntetic': no such file, .*; did you mean synthetic.*module:name for one of your own",
        ),
    ],
)
def test_every_kind_of_part_suggests_the_nearest_name(ask: Callable[[], Any], says: str) -> None:
    with pytest.raises(DiswotError, match=says):
        ask()


def _proxy(**facts: Any) -> Proxy:
    return FunctionProxy(lambda candidate, teacher, cost: 0.0, **facts)


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({"needs": frozenset({"network", "label"})}, "^proxy mine: needs 'label': did you mean labels"),
        ({"needs": "labels"}, "^proxy mine: needs 'labels' is one text"),
        ({"norm": "batches"}, "^proxy mine: norm 'batches': did you mean batch"),
        ({"input": "gaussian_image"}, "^proxy mine: input 'gaussian_image'"),
        ({"batch_size": 1}, "^proxy mine: batch_size 1: a whole number, at least 2, is needed"),
        ({"seeds": 0}, "^proxy mine: seeds 0: a whole number, at least 1, is needed"),
    ],
)
def test_what_a_proxy_declares_is_checked_when_it_is_registered(facts: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PROXIES.register("mine")(_proxy(**facts))
    assert "mine" not in PROXIES


def test_a_registered_proxy_knows_its_name() -> None:
    with PROXIES.registered("mine", _proxy(summary="x")) as proxy:
        assert proxy.name == "mine" and PROXIES["mine"] is proxy


def test_what_a_loss_declares_is_checked_when_it_is_registered() -> None:
    class Needy(Loss):
        needs = frozenset({"logit"})

    class Unplanned(Loss):
        scheme = object  # type: ignore[assignment]

    for loss, says in ((Needy, "^loss mine: needs 'logit': did you mean logits"), (Unplanned, "^loss mine: scheme must be a subclass of")):
        with pytest.raises(ConfigError, match=says):
            LOSSES.register("mine")(loss)
    assert "mine" not in LOSSES


OWN = """
    from diswot.losses import Loss
    from diswot.proxies import Proxy
    from diswot.searching.strategies import Strategy
    from search_spaces.resnet_depth import ResNetDepth

    class Needy(Proxy):
        needs = frozenset({"techer"})
        def score(self, candidate, teacher, cost):
            return 0.0

    class NeedyLoss(Loss):
        needs = frozenset({"logit"})

    class Space(ResNetDepth): ...

    class Walk(Strategy):
        def candidates(self, state):
            return iter(())
"""


def test_a_part_of_ones_own_is_checked_as_ours_are(module: Write) -> None:
    name = module(OWN)
    with pytest.raises(ConfigError, match=f"^proxy {name}:Needy: needs 'techer': did you mean teacher"):
        get_proxy(f"{name}:Needy")
    with pytest.raises(ConfigError, match=f"^loss {name}:NeedyLoss: needs 'logit': did you mean logits"):
        create(f"{name}:NeedyLoss")
    with pytest.raises(ConfigError, match=f"the loss '{name}:Needy' is no subclass of diswot.losses.Loss"):
        create(f"{name}:Needy")
    with pytest.raises(ConfigError, match=f"the proxy '{name}:Space' is Space, which is no subclass of diswot.proxies.base.Proxy"):
        get_proxy(f"{name}:Space")
    assert type(STRATEGIES[f"{name}:Walk"]).__name__ == "Walk"


def test_a_space_out_of_a_file_is_built_only_where_the_user_names_it(module: Write) -> None:
    name = module(OWN)
    arch = Architecture(f"{name}:Space", {"depths": [1, 1, 1]})
    with pytest.raises(ConfigError, match=f"the space '{name}:Space' is Python code that a file names: allow it with --space {name}:Space"):
        diswot.build(arch, num_classes=4)
    with pytest.raises(ConfigError, match="allow it with --space"):
        diswot.build(arch, num_classes=4, space="other:Space")
    assert name not in sys.modules
    assert diswot.build(arch, num_classes=4, space=f"{name}:Space").num_classes == 4
    assert load_space(f"{name}:Space", trusted=True).name == f"{name}:Space"

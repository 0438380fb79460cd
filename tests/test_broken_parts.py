"""Parts of one's own that are wrong: one line that names the part, and the line of its file where its code raised something."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diswot import plugins
from diswot.architecture import Architecture
from diswot.errors import ConfigError, DataError
from diswot.searching.strategies import Strategy
from diswot.space import load_space
from diswot.testing import check_data_source, check_loss, check_proxy, check_scheme, check_space, check_strategy
from tests.own_modules import write_module

Run = Callable[..., tuple[int, str, str]]
SEARCH = (
    "search --proxy params,flops --teacher resnet8 --space s0 --num-classes 4 --input-size 8 --iterations 4 --population-size 1 "
    "--generation-size 1 --seeds 1 --batch-size 2 --workers 1 --quiet"
)

STRATEGY = """
    from diswot import Architecture
    from diswot.searching.strategies import Strategy

    class Raises(Strategy):
        def candidates(self, state):
            raise KeyError("boom")
            yield

    class Returns(Strategy):
        def candidates(self, state):
            return None

    class YieldsOne(Strategy):
        def candidates(self, state):
            yield state.history[0].arch

    class Elsewhere(Strategy):
        def candidates(self, state):
            yield Architecture("resnet_width", []), None

    class Outside(Strategy):
        def candidates(self, state):
            yield Architecture("resnet_depth", {"depths": [2, 2, 2]}), None

    class Parent(Strategy):
        def candidates(self, state):
            yield state.history[0].arch, 7

    class Endless(Strategy):
        summary = "the same for ever"

        def candidates(self, state):
            while True:
                yield state.history[0].arch, None
"""
SPACE = """
    from diswot import Architecture, load_space

    S0 = type(load_space("s0"))

    class Unsure(S0):
        def sample(self, rng):
            return Architecture(self.name, {"depths": {1, 2}})

    class Unbuilt(S0):
        def build(self, arch, num_classes, in_chans=3):
            raise RuntimeError("boom")

        def count(self, arch, num_classes, in_chans, input_size):
            return None

    class Careless(S0):
        def check(self, arch):
            arch.choices["depths"]
"""
PROXY = """
    from diswot.proxies import Proxy

    class Blocks(Proxy):
        summary = "reads what it has not declared"
        needs = frozenset({"network"})

        def score(self, candidate, teacher, cost):
            return candidate.images.blocks[0].mean()

    class Nothing(Proxy):
        def score(self, candidate, teacher, cost):
            return None

    class NoGraph(Proxy):
        def score(self, candidate, teacher, cost):
            return candidate.images.jacobian.norm()

    class NoTeacherGraph(Proxy):
        needs = frozenset({"network", "teacher"})

        def score(self, candidate, teacher, cost):
            return teacher.jacobian_gram.norm()
"""
LOSS = """
    import torch
    from diswot.config import option
    from diswot.losses import Loss, SingleTermLoss

    class Raises(Loss):
        summary = "raises"

        def distil(self, student, reference, target):
            raise KeyError("boom")

    class Bare(Loss):
        def distil(self, student, reference, target):
            return student.logits.mean()

    class Vector(Loss):
        def distil(self, student, reference, target):
            return {"gap": (student.logits - reference.logits).mean(1)}

    class Misnamed(SingleTermLoss):
        def distill(self, student, reference, target):
            return student.logits.mean()

    class Forgets(SingleTermLoss):
        def value(self, student, reference, target):
            student.logits.mean()

    class Outside(Loss):
        gamma: float = option(-4.0, gt=0)
"""
SCHEME = """
    from diswot.losses import Loss
    from diswot.schemes import Scheme

    class Quiet(Scheme):
        reference_name = "teacher"

        def references(self, student, students, teacher):
            return [teacher]

    class QuietLoss(Loss):
        summary = "of the teacher, which is not asked for"
        scheme = Quiet

    class One(Quiet):
        def references(self, student, students, teacher):
            return students[student]

    class OneLoss(Loss):
        scheme = One

    class Missing(Quiet):
        def references(self, student, students, teacher):
            return [students[student + 1]]

    class MissingLoss(Loss):
        scheme = Missing

    class Logits(Quiet):
        uses_teacher = True

        def references(self, student, students, teacher):
            return [teacher.logits]

    class Peers(Quiet):
        def references(self, student, students, teacher):
            return [None, *(seen for number, seen in students.items() if number != student)]

    class Flat(Peers):
        independent_students = False

        def groups(self, num_students):
            return [0, 1]

    class Independent(Peers):
        def groups(self, num_students):
            return [[0, 1]]

    class Halves(Quiet):
        def references(self, student, students, teacher):
            return [None]

        def init_seed(self, seed, student):
            return seed + 0.5

    class LogitsLoss(Loss):
        scheme = Logits

    class PeersLoss(Loss):
        scheme = Peers

    class FlatLoss(Loss):
        scheme = Flat

    class IndependentLoss(Loss):
        scheme = Independent

    class HalvesLoss(Loss):
        scheme = Halves
"""
DATA = """
    import numpy as np
    from diswot.data import ArrayImages, Dataset, DataSource

    def dataset(pixels, labels):
        return Dataset("mine", ArrayImages(pixels, labels), None, ["cat", "dog"])

    class Floats(DataSource):
        def load(self, request):
            return dataset(np.zeros((8, 8, 8, 3), np.float32), np.arange(8) % 2)

    class Sideways(DataSource):
        def load(self, request):
            return dataset(np.zeros((8, 3, 8, 8), np.uint8), np.arange(8) % 2)

    class Pair(DataSource):
        def load(self, request):
            return Dataset("mine", (1, 2), None, ["cat", "dog"])

    class Names(DataSource):
        def load(self, request):
            return Dataset("mine", ArrayImages(np.zeros((8, 8, 8, 3), np.uint8), np.arange(8) % 2), None, 2)

    class Listed(DataSource):
        def load(self, request):
            return dataset(np.arange(8 * 8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 8, 3), [0, 1] * 4)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    monkeypatch.syspath_prepend(tmp_path / "library")
    return lambda source: write_module(tmp_path / "library", source)


def refused(ended: tuple[int, str, str], says: str) -> None:
    code, out, err = ended
    assert code == 2 and out == "" and says in err and len(err.splitlines()) == 1, err


@pytest.mark.parametrize(
    ("source", "words", "says"),
    [
        (STRATEGY, "--strategy MODULE:Raises", "the strategy MODULE:Raises (line 7 of MODULE.py) failed with KeyError: 'boom'"),
        (STRATEGY, "--strategy MODULE:Returns", "strategy MODULE:Returns: candidates() must yield pairs, it returned NoneType"),
        (STRATEGY, "--strategy MODULE:YieldsOne", "must yield (architecture, its parent or None), not Architecture resnet_depth:"),
        (STRATEGY, "--strategy MODULE:Elsewhere", "strategy MODULE:Elsewhere: it yields resnet_width:[], and the space is resnet_depth"),
        (STRATEGY, "--strategy MODULE:Outside", "strategy MODULE:Outside: it yields what is not in the space: "),
        (STRATEGY, "--strategy MODULE:Parent", "must yield (architecture, its parent or None), not tuple"),
        (PROXY, "--proxy MODULE:Nothing", "proxy MODULE:Nothing: score must return one number, not NoneType"),
        (PROXY, "--proxy MODULE:NoGraph", "this pass has no gradients; add images:graph"),
        (PROXY, "--proxy MODULE:NoTeacherGraph", "there are no gradients of the teacher; add teacher:graph to needs"),
        (DATA, "--proxy nwot --data MODULE:Pair", "--data MODULE:Pair: train: images must be a set such as diswot.data.ArrayImages"),
        (DATA, "--proxy nwot --data MODULE:Names", "--data MODULE:Names: the class names must be a list, not int"),
        (SPACE, "--space MODULE:Unsure", "the choices of an architecture of MODULE:Unsure must be plain JSON: set is not plain JSON"),
        (SPACE, "--space MODULE:Unbuilt", "the space MODULE:Unbuilt (line 12 of MODULE.py) failed with RuntimeError: boom"),
        (PROXY, "--proxy MODULE:Blocks", "proxy MODULE:Blocks (line 9 of MODULE.py)"),
        (PROXY, "--proxy nwot,MODULE:Blocks", "proxy MODULE:Blocks (line 9 of MODULE.py)"),
        (DATA, "--proxy nwot --data MODULE:Floats", "--data MODULE:Floats: train: float32 of shape (8, 8, 8, 3); uint8 of shape"),
        (DATA, "--proxy nwot --data MODULE:Sideways", "--data MODULE:Sideways: train: uint8 of shape (8, 3, 8, 8); uint8 of shape"),
    ],
)
def test_a_wrong_part_ends_a_search_with_one_line(module: Callable[[str], str], diswot: Run, source: str, words: str, says: str) -> None:
    name = module(source)
    if "--data" in words:
        words += " --num-classes 2"
    refused(diswot(*SEARCH.split(), *words.replace("MODULE", name).split()), says.replace("MODULE", name))


@pytest.mark.parametrize(
    ("source", "words", "says"),
    [
        (
            LOSS,
            "resnet8 --teacher resnet8 --loss MODULE:Raises",
            "the loss MODULE:Raises (line 10 of MODULE.py) failed with KeyError: 'boom'",
        ),
        (LOSS, "resnet8 --teacher resnet8 --loss MODULE:Bare", "distil must return a dict of scalar tensors by name, not Tensor"),
        (LOSS, "resnet8 --teacher resnet8 --loss kd+MODULE:Vector", "the term gap must be a scalar tensor, not a tensor of shape (2,)"),
        (LOSS, "resnet8 --teacher resnet8 --loss MODULE:Misnamed", "define value(student, reference, target), or distil"),
        (SCHEME, "resnet8 --loss MODULE:QuietLoss", "scheme Quiet: it compares students with the teacher; say uses_teacher = True"),
        (LOSS, "resnet8 --teacher resnet8 --loss MODULE:Forgets", "loss Forgets: value must return a scalar tensor, not NoneType"),
        (LOSS, "resnet8 --teacher resnet8 --loss MODULE:Outside", "the default of the option 'gamma', -4.0: more than 0 is needed"),
        (SCHEME, "resnet8 --teacher resnet8 --loss MODULE:LogitsLoss", "scheme Logits: references must hold observations"),
        (SCHEME, "resnet8 resnet14 --loss MODULE:PeersLoss", "of those in one backward pass, [0]: override groups where students look"),
        (SCHEME, "resnet8 resnet14 --loss MODULE:FlatLoss", "scheme Flat: groups must hold every student once, in lists of numbers"),
        (SCHEME, "resnet8 resnet14 --loss MODULE:IndependentLoss", "scheme Independent: students that share a backward pass are not"),
        (SCHEME, "resnet8 --loss MODULE:HalvesLoss", "scheme Halves: init_seed must return a whole number, not 0.5"),
        (SCHEME, "resnet8 --loss MODULE:OneLoss", "scheme One: references must return a list with an entry for each loss"),
        (SCHEME, "resnet8 --loss MODULE:MissingLoss", "the loss MODULE:MissingLoss (line 24 of MODULE.py) failed with KeyError: 1"),
    ],
)
def test_a_wrong_part_ends_a_training_with_one_line(
    module: Callable[[str], str], diswot: Run, small_npz: Path, source: str, words: str, says: str
) -> None:
    name = module(source)
    options = ["--data", str(small_npz), "--epochs", "1", "--batch-size", "16", "--quiet"]
    refused(diswot("distill", *words.replace("MODULE", name).split(), *options), says.replace("MODULE", name))


def test_labels_in_a_list_are_taken_and_an_endless_strategy_ends(module: Callable[[str], str], diswot: Run) -> None:
    data, strategy = module(DATA), module(STRATEGY)
    words = f"--strategy {strategy}:Endless --data {data}:Listed --num-classes 2 --json"
    code, out, err = diswot(*SEARCH.split(), *words.split())
    assert code == 0 and len(json.loads(out)["winner"]) > 0, err


def test_a_fault_that_is_ours_is_said_to_be_ours(diswot: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diswot.searching.recipe.run_search", None)
    monkeypatch.setattr("diswot.searching.recipe.Search", None, raising=False)
    monkeypatch.setattr("diswot.sessions.Session.run", lambda self: {}["missing"])
    code, _, err = diswot(*SEARCH.split())
    assert code == 1 and "KeyError: 'missing'; this is a fault of diswot's" in err


@pytest.mark.parametrize(
    ("check", "source", "part", "says"),
    [
        (check_strategy, STRATEGY, "Raises", r"Raises: KeyError: 'boom' \(line 7"),
        (check_strategy, STRATEGY, "YieldsOne", "YieldsOne: "),
        (check_space, SPACE, "Unbuilt", r"Unbuilt: RuntimeError: boom \(line 12"),
        (check_space, SPACE, "Careless", "Careless: check must refuse None by an ArchitectureError, it raised TypeError"),
        (check_loss, LOSS, "Raises", r"Raises: KeyError: 'boom' \(line 10"),
        (check_proxy, PROXY, "Blocks", "line 9"),
        (check_data_source, DATA, "Floats", r"train: images\(\) gave float32|uint8 of shape"),
    ],
)
def test_checks_raise_assertion_errors(module: Callable[[str], str], check: Callable[..., None], source: str, part: str, says: str) -> None:
    with pytest.raises((AssertionError, ConfigError, DataError), match=says):
        check(f"{module(source)}:{part}")


def test_a_scheme_is_checked_by_its_name_too(module: Callable[[str], str]) -> None:
    name = module(SCHEME)
    with pytest.raises(ConfigError, match="scheme Quiet: it compares students with the teacher; say uses_teacher = True"):
        check_scheme(f"{name}:Quiet")
    for broken, says in (("Peers", "override groups"), ("Flat", "every student once"), ("Halves", "init_seed"), ("Logits", "observations")):
        with pytest.raises(ConfigError, match=f"scheme {broken}: .*{says}"):
            check_scheme(f"{name}:{broken}")
    with pytest.raises(AssertionError, match=r"is no subclass of diswot\.schemes\.Scheme"):
        check_scheme(f"{name}:QuietLoss")


def test_choices_are_the_same_before_and_after_a_journal() -> None:
    """A part that walks the keys of a dict, and draws a random number for each, sees one order."""
    live = Architecture("mine", {"b": (1, np.int64(2)), "a": {"d": np.float64(0.5), "c": None}})
    journal = Architecture("mine", json.loads(json.dumps({"a": {"c": None, "d": 0.5}, "b": [1, 2]})))
    assert json.dumps(live.choices) == json.dumps(journal.choices) == '{"a": {"c": null, "d": 0.5}, "b": [1, 2]}'
    assert live == journal and hash(live) == hash(journal)


def test_a_module_beside_a_part_is_watched_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    helper = write_module(tmp_path, "def sign(value):\n    return value\n")
    unused = write_module(tmp_path, "")
    name = write_module(tmp_path, f"import numpy\nfrom {helper} import sign\nclass Part: ...\n")
    before = plugins.code_digests(f"{name}:Part")
    (tmp_path / f"{unused}.py").write_text("# changed\n")
    assert plugins.code_digests(f"{name}:Part") == before
    (tmp_path / f"{helper}.py").write_text("def sign(value):\n    return -value\n")
    assert plugins.code_digests(f"{name}:Part") != before
    assert str(Path(np.__file__)) not in plugins._sources(sys.modules[name])


def test_spaces_and_strategies_under_test_are_what_they_seem(module: Callable[[str], str]) -> None:
    assert load_space(f"{module(SPACE)}:Careless", trusted=True).size() == 64
    assert issubclass(plugins.load_object(f"{module(STRATEGY)}:Endless", "strategy"), Strategy)

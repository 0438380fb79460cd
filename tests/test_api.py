"""What `import diswot` offers, given what it does not take: an error of ours that names the argument, and not one from inside."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import diswot
from diswot.architecture import Architecture
from diswot.errors import DiswotError

WRONG = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.binary(max_size=3),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.integers(), st.integers(), max_size=2),
    st.sampled_from([object(), int, len, set(), (1, 2), 10**400]),
)
TRAINED = {"arch": "resnet8", "folder": "run", "data": "none.npz"}
CALLS: dict[str, dict[str, Any]] = {
    "search": {"params": "1k"},
    "score": {"archs": ["resnet8"], "data": "none.npz"},
    "study": {"table": "none.csv"},
    "distill": TRAINED,
    "train": TRAINED,
    "compare": {**TRAINED, "archs": ["resnet8", "resnet14"]},
    "tabulate": {"folder": "run", "space": "s0", "data": "none.npz"},
    "resume": {"folder": "run"},
    "write_report": {"folder": "run"},
    "load_arch": {"path": "none.json"},
    "load_student": {"folder": "run"},
    "build": {"arch": Architecture("zoo", "resnet8"), "num_classes": 0, "in_chans": 0},
}
del CALLS["compare"]["arch"]
ARGUMENTS = [
    (name, argument.name)
    for name in CALLS
    for argument in inspect.signature(getattr(diswot, name)).parameters.values()
    if argument.kind is not argument.VAR_KEYWORD
]


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS, ids=[f"{name}-{argument}" for name, argument in ARGUMENTS])
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wrong=WRONG)
def test_a_wrong_type_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, argument: str, wrong: Any) -> None:
    """The call ends with an error of ours whatever it is given: nothing that it names is there."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DiswotError) as raised:
        getattr(diswot, name)(**{**CALLS[name], argument: wrong})
    message = str(raised.value)
    assert "\n" not in message and len(message) < 2000
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: diswot.search(params="1M", folder=3), "folder 3: a path is needed"),
        (lambda: diswot.search(params="1M", device=None), "device None: text such as cpu"),
        (lambda: diswot.search(params="1M", workers=2.5), "workers 2.5: a whole number is needed"),
        (lambda: diswot.search(params="1M", workers=10**30), "workers 1000"),
        (lambda: diswot.search(params="1M", reporter=3), "reporter 3: an object with start"),
        (lambda: diswot.search(params=[1]), "params a list is not text"),
        (lambda: diswot.score("resnet8"), "archs 'resnet8': a list of architectures"),
        (lambda: diswot.score([3]), "archs: 3 among them"),
        (lambda: diswot.distill([], folder="a"), "arch: no architecture was given"),
        (lambda: diswot.study(3), "table 3: a path is needed"),
        (lambda: diswot.tabulate(folder="a", searches="runs/a"), "searches 'runs/a': a list of folders"),
        (lambda: diswot.resume(None), "folder None: a path is needed"),
        (lambda: diswot.resume("a", allow="m:n"), "allow 'm:n': a list"),
        (lambda: diswot.load_arch(3), "path 3"),
        (lambda: diswot.load_student(3), "folder 3"),
        (lambda: diswot.build("resnet8", 10), "arch 'resnet8': an Architecture is needed"),
        (lambda: diswot.build(Architecture("zoo", "resnet8"), "10"), "num_classes '10': a whole number"),
    ],
)
def test_the_argument_is_named(call: Any, says: str) -> None:
    with pytest.raises(DiswotError) as raised:
        call()
    assert says.replace("_", "-") in str(raised.value) or says in str(raised.value)

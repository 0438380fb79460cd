"""Networks cut into units: against the networks themselves, run on real images, and against the arithmetic of their spaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diswot.architecture import Architecture
from diswot.errors import ConfigError
from diswot.latency.units import Layer, Unit, UnitReader, cut_network
from diswot.models.base import ImageClassifier, conv_bn_relu, stage_info
from diswot.space import ImageSpec, load_space
from tests.latency.samples import SPEC

SEQUENCES = ["s0", "s1", "s2", "nats_size", "channel_bench", "nasbench_macro", "nasbench201", "nasbench101"]


def drawn(space: str, count: int, seed: int = 0) -> list[Architecture]:
    """Random networks of at most 3M parameters, so that they are quick to build."""
    of, rng, found = load_space(space), np.random.default_rng(seed), []
    while len(found) < count:
        arch = of.sample(rng)
        if of.count(arch, 10, 3, 32).params < 3_000_000:
            found.append(arch)
    return found


@pytest.mark.parametrize("name", SEQUENCES)
def test_units_run_one_after_another_are_the_network(name: str) -> None:
    space = load_space(name)
    (arch,) = drawn(name, 1)
    model = space.build(arch, 10).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected, x = model(images), images
        for cut in cut_network(model, SPEC):
            assert tuple(x.shape[1:]) == cut.unit.inputs
            x = cut.module(model).eval()(x)
    torch.testing.assert_close(x, expected)


@pytest.mark.parametrize("name", SEQUENCES)
def test_units_read_without_weights_are_those_of_the_network(name: str) -> None:
    """The second and later networks are read off stand-ins for blocks; FLOPs are the space's own arithmetic."""
    space, archs = load_space(name), drawn(name, 6)
    reader = UnitReader(space, SPEC)
    for arch in archs:
        units = reader.units(arch)
        assert reader._as_skeleton
        assert units == tuple(cut.unit for cut in cut_network(space.build(arch, 10), SPEC))
        assert sum(unit.flops for unit in units) == space.count(arch, 10, 3, 32).flops
    assert reader.units(archs[0]) == UnitReader(space, SPEC).units(archs[0]), "what is remembered changes nothing"


def test_layers_are_those_that_a_real_pass_meets() -> None:
    """Hooks on every leaf of a network that is run on an image, which `units` knows nothing of."""
    space, (arch,) = load_space("nasbench_macro"), drawn("nasbench_macro", 1)
    model, met = space.build(arch, 10).eval(), []

    def note(leaf: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        met.append((type(leaf).__name__, tuple(inputs[0].shape[1:]), tuple(output.shape[1:])))

    for module in model.modules():
        if not list(module.children()) and not isinstance(module, nn.Identity):
            module.register_forward_hook(note)
    with torch.inference_mode():
        model(torch.zeros(1, 3, 32, 32))
    layers = [layer for unit in UnitReader(space, SPEC).units(arch) for layer in unit.layers]
    assert [(layer.kind, layer.inputs, layer.outputs) for layer in layers] == met


def test_torch_is_left_as_it_was() -> None:
    before = [(kind.__init__, kind.forward) for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)]
    had_own = "forward" in vars(nn.BatchNorm2d)
    UnitReader(load_space("s1"), SPEC).units(drawn("s1", 1)[0])
    assert [(kind.__init__, kind.forward) for kind in (nn.Conv2d, nn.BatchNorm2d, nn.Linear)] == before
    assert ("forward" in vars(nn.BatchNorm2d)) == had_own
    assert nn.Conv2d(3, 4, 3).weight.shape == (4, 3, 3, 3)


def test_equal_blocks_in_other_places_are_one_unit() -> None:
    units = UnitReader(load_space("s0"), SPEC).units(Architecture("resnet_depth", {"depths": [3, 1, 1]}))
    assert units[1] == units[2] == units[3] and hash(units[1]) == hash(units[3]) and len(set(units)) == 5
    assert [unit.kind for unit in units] == ["Conv2d", *["BasicBlock"] * 5, "head"]


class _Fork(ImageClassifier):
    """The trunk is no chain: its second part takes the image too."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn_relu(3, 3, 3), nn.Sequential(nn.Conv2d(3, 3, 1))
        self.init_classifier(3, 10, stage_info([3], [1], ["a"]))

    def forward_features(self, x: Tensor) -> Tensor:
        return self.b(self.a(x) + x)


class _Functional(_Fork):
    def forward_features(self, x: Tensor) -> Tensor:
        return torch.relu(self.b(self.a(x)))


@pytest.mark.parametrize("kind", [_Fork, _Functional])
def test_what_is_no_chain_is_refused(kind: type[nn.Module]) -> None:
    with pytest.raises(ConfigError, match=f"{kind.__name__} is no sequence of units .* measure networks whole"):
        cut_network(kind(), SPEC)


def test_what_lacks_the_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match="Sequential does not follow timm's protocol"):
        cut_network(nn.Sequential(nn.Conv2d(3, 3, 1)), SPEC)


class _Initialised(_Functional):
    """Its constructor looks at weights, which a skeleton has not."""

    def __init__(self) -> None:
        super().__init__()
        nn.init.zeros_(self.b[0].weight)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


def test_a_constructor_that_needs_weights_is_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    space = load_space("s0")
    monkeypatch.setattr(type(space), "build", lambda *_: _Initialised())
    reader = UnitReader(space, ImageSpec(10, 3, 8))
    arch = Architecture("resnet_depth", {"depths": [1, 1, 1]})
    for _ in range(2):
        assert [(unit.kind, len(unit.layers)) for unit in reader.units(arch)] == [("Conv2d", 3), ("Conv2d", 1), ("head", 1)]
    assert not reader._as_skeleton


NO_LAYERS = ["", "Conv2d", "Conv2d 3x3 g1 8x8", "Conv2d 3x3 g0 8x8x8>8x8x8", "ReLU 0x1x1>1", "a b 3>4", "ReLU 99999999>1"]


@pytest.mark.parametrize("text", NO_LAYERS)
def test_text_that_is_no_layer_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Layer.parse(text)


def test_layers_are_read_as_they_were_written() -> None:
    for unit in UnitReader(load_space("nasbench_macro"), SPEC).units(drawn("nasbench_macro", 1)[0]):
        read = Unit(unit.kind, unit.inputs, tuple(Layer.parse(text) for text in unit.layers_text.split("; ")))
        assert read == unit and read.flops == unit.flops

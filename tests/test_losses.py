from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from diswot.errors import ConfigError
from diswot.losses import LOSSES, create, kd, relation, semantic
from diswot.observe import Observation


def seen(channels: int = 5, side: int = 2, batch: int = 4, classes: int = 3, seed: int = 0) -> Observation:
    generator = torch.Generator().manual_seed(seed)
    features = torch.rand(batch, channels, side, side, generator=generator, dtype=torch.float64)
    weight = torch.randn(classes, channels, generator=generator, dtype=torch.float64)
    pooled = features.mean((2, 3))
    return Observation(features, pooled, pooled @ weight.T, weight)


TARGET = torch.tensor([0, 1, 2, 0])


def softmax(row: Tensor) -> list[float]:
    top = max(row.tolist())
    exponentials = [math.exp(v - top) for v in row.tolist()]
    return [e / sum(exponentials) for e in exponentials]


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_kd_from_the_definition(temperature: float) -> None:
    """Summed over classes, averaged over the batch, times T squared: KL(teacher || student)."""
    student, teacher = seen(seed=1).logits, seen(seed=2).logits
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        p_s, p_t = softmax(s / temperature), softmax(t / temperature)
        total += sum(b * math.log(b / a) for a, b in zip(p_s, p_t, strict=True))
    assert kd(student, teacher, temperature).item() == pytest.approx(temperature**2 * total / len(student), rel=1e-9)


def test_semantic_from_the_definition() -> None:
    student, teacher = seen(5, 2, seed=1), seen(7, 3, seed=2)

    def correlation(o: Observation) -> Tensor:
        maps = torch.einsum("nc,bchw->nbhw", o.weight, o.features).flatten(1)
        gram = torch.stack([torch.stack([(a * b).sum() for b in maps]) for a in maps])
        return gram / math.sqrt(sum(float(v) ** 2 for v in gram.flatten()))

    difference = correlation(teacher) - correlation(student)
    expected = math.sqrt(sum(float(v) ** 2 for v in difference.flatten())) / 3**2
    assert semantic(student, teacher).item() == pytest.approx(expected, rel=1e-9)


def test_relation_from_the_definition() -> None:
    student, teacher = seen(5, 2, seed=1), seen(7, 3, seed=2)

    def correlation(o: Observation) -> Tensor:
        flat = o.features.flatten(1)
        gram = torch.stack([torch.stack([(a * b).sum() for b in flat]) for a in flat])
        return gram / math.sqrt(sum(float(v) ** 2 for v in gram.flatten()))

    difference = correlation(teacher) - correlation(student)
    expected = math.sqrt(sum(float(v) ** 2 for v in difference.flatten())) / 4**2
    assert relation(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("loss", [semantic, relation, lambda s, t: kd(s.logits, t.logits)])
def test_losses_are_zero_where_both_agree(loss) -> None:  # type: ignore[no-untyped-def]
    assert loss(seen(), seen()).item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["semantic", "relation", "kd"])
def test_gradients_are_right_and_the_teacher_has_none(name: str) -> None:
    teacher = seen(7, 3, seed=2)
    frozen = Observation(*(getattr(teacher, f).requires_grad_() for f in ("features", "pooled", "logits", "weight")))
    student = seen(5, 2, seed=1)

    def run(features: Tensor, weight: Tensor) -> Tensor:
        pooled = features.mean((2, 3))
        now = Observation(features, pooled, pooled @ weight.T, weight)
        return kd(now.logits, frozen.logits) if name == "kd" else {"semantic": semantic, "relation": relation}[name](now, frozen)

    inputs = (student.features.clone().requires_grad_(), student.weight.clone().requires_grad_())
    assert torch.autograd.gradcheck(run, inputs)
    run(*inputs).backward()
    assert all(getattr(frozen, f).grad is None for f in ("features", "logits", "weight"))


@pytest.mark.parametrize("name", list(LOSSES))
def test_terms_do_not_depend_on_the_order_of_the_batch(name: str) -> None:
    order = torch.tensor([2, 0, 3, 1])
    student, teacher = seen(5, 2, seed=1), seen(7, 3, seed=2)

    def shuffled(o: Observation) -> Observation:
        return Observation(o.features[order], o.pooled[order], o.logits[order], o.weight)

    plain, moved = create(name)(student, teacher, TARGET), create(name)(shuffled(student), shuffled(teacher), TARGET[order])
    for term in plain:
        assert moved[term].item() == pytest.approx(plain[term].item(), rel=1e-9)


def test_weights_scale_their_terms() -> None:
    student, teacher = seen(5, 2, seed=1), seen(7, 3, seed=2)
    plain = create("diswot", ce_weight=1, kd_weight=1)(student, teacher, TARGET)
    scaled = create("diswot", ce_weight=2, kd_weight=3, semantic_weight=5, relation_weight=7)(student, teacher, TARGET)
    assert {k: round(scaled[k].item() / plain[k].item(), 9) for k in plain} == {"ce": 2, "kd": 3, "semantic": 5, "relation": 7}


def test_unknown_losses_and_options_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean diswot"):
        create("diswott")
    with pytest.raises(ConfigError, match=r"loss kd.*tempreature"):
        create("kd", tempreature=1)

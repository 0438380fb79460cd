"""Every proxy against a slow loop written from its definition, in float64 on a small network; and all of them on foreign networks."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diswot import losses
from diswot.architecture import Architecture
from diswot.errors import ConfigError, TeacherError
from diswot.models.init import Initialiser, initialise
from diswot.models.resnet import CifarResNet
from diswot.observe import batch_statistics, disable_inplace, observe, trunk_modules, watch_blocks
from diswot.proxies import (
    PASSES,
    PROXIES,
    Candidate,
    ForwardPass,
    NetworkSummary,
    Ranking,
    adapt_to_teacher,
    get_proxy,
    gradient,
    passes,
    resolve_ranking,
    spectrum,
)
from diswot.space import Cost

NO_COST = Cost(1, 1, 1)
CLASSES, BATCH, SIDE = 4, 6, 8
WEIGHTED = (nn.Conv2d, nn.Linear)
EVERYTHING = {name: frozenset({"graph", "blocks", "agreements", "codes", "outputs"}) for name in PASSES}


class Small(CifarResNet):
    """Few channels, so that loops over all of them are quick."""

    def __init__(self) -> None:
        super().__init__([1, 1, 1], num_classes=CLASSES)


@pytest.fixture
def student() -> Any:
    torch.manual_seed(0)
    model = disable_inplace(Small()).double()
    images, target = torch.randn(BATCH, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0, 1])
    with batch_statistics(model):
        yield student_of(model, images, target)


def student_of(model: nn.Module, images: Tensor, target: Tensor) -> Candidate:
    initialisers: dict[Any, Initialiser] = {}

    def weights(init: Any) -> None:
        chosen = init or "kaiming"
        initialisers.setdefault(chosen, Initialiser(model, chosen))(7)

    return Candidate(model, weights, images, target, 7, EVERYTHING, NO_COST)


def score(name: str, student: Candidate, teacher: NetworkSummary | None = None) -> float:
    with torch.no_grad():
        return float(get_proxy(name).score(student, teacher, NO_COST))


def layers(model: nn.Module) -> list[Any]:
    return [m for m in model.modules() if isinstance(m, WEIGHTED)]


def backward(student: Candidate) -> nn.Module:
    """A copy of the network after an ordinary backward pass of the loss."""
    model = copy.deepcopy(student.model)
    F.cross_entropy(observe(model, student.input("images")).logits, student.target).backward()
    return model


def test_gradient_proxies_are_sums_over_an_ordinary_backward_pass(student: Candidate) -> None:
    model = backward(student)
    pairs = [(layer.weight.detach().numpy(), layer.weight.grad.numpy()) for layer in layers(model)]
    assert score("grad_norm", student) == pytest.approx(sum(math.sqrt((g**2).sum()) for _, g in pairs), rel=1e-9)
    assert score("snip", student) == pytest.approx(sum(np.abs(w * g).sum() for w, g in pairs), rel=1e-9)
    assert score("plain", student) == pytest.approx(sum((w * g).sum() for w, g in pairs), rel=1e-9)
    assert score("l2_norm", student) == pytest.approx(sum(math.sqrt((w**2).sum()) for w, _ in pairs), rel=1e-9)


def test_fisher_loops_over_layers_channels_and_images(student: Candidate) -> None:
    model = copy.deepcopy(student.model)
    seen: list[Tensor] = []
    for layer in layers(model):
        layer.register_forward_hook(lambda _m, _x, y: (y.retain_grad(), seen.append(y))[0])
    F.cross_entropy(observe(model, student.input("images")).logits, student.target).backward()
    total = 0.0
    for output in seen:
        for channel in range(output.shape[1]):
            per_image = [float((output.detach()[n, channel] * output.grad[n, channel]).sum()) for n in range(BATCH)]  # type: ignore[index]
            total += 0.5 * sum(value**2 for value in per_image) / BATCH
    assert score("fisher", student) == pytest.approx(total, rel=1e-9)


def test_grasp_is_minus_w_hessian_gradient() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 2])

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(torch.tanh(x @ w.view(3, 3)), y)

    w = torch.randn(9, dtype=torch.float64, requires_grad=True)
    hessian = torch.autograd.functional.hessian(loss, w)
    (g,) = torch.autograd.grad(loss(w), w)
    assert gradient.grasp([w], loss(w)).item() == pytest.approx(float(-(w.detach() @ (hessian @ g))), rel=1e-9)  # type: ignore[operator]


def test_grasp_of_a_network_is_a_finite_difference_of_its_gradient(student: Candidate) -> None:
    model, step = copy.deepcopy(student.model), 1e-6
    weights = [layer.weight for layer in layers(model)]

    def gradients() -> tuple[Tensor, ...]:
        return torch.autograd.grad(F.cross_entropy(observe(model, student.input("images")).logits, student.target), weights)

    g = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w += step * d
    ahead = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w -= 2 * step * d
    behind = gradients()
    with torch.no_grad():
        for w, d in zip(weights, g, strict=True):
            w += step * d
    expected = -sum(float((w.detach() * (a - b) / (2 * step)).sum()) for w, a, b in zip(weights, ahead, behind, strict=True))
    assert score("grasp", student) == pytest.approx(expected, rel=1e-5)


def gradients_of(student: Candidate, part: slice) -> list[np.ndarray[Any, Any]]:
    model = copy.deepcopy(student.model)
    F.cross_entropy(observe(model, student.input("images")[part]).logits, student.target[part]).backward()
    return [layer.weight.grad.numpy() for layer in layers(model)]


def test_zico_from_two_halves_run_by_themselves(student: Candidate) -> None:
    first, second = gradients_of(student, slice(0, 3)), gradients_of(student, slice(3, 6))
    total = 0.0
    for a, b in zip(first, second, strict=True):
        ratio = 0.0
        for u, v in zip(a.ravel(), b.ravel(), strict=True):
            deviation = abs(u - v) / 2
            if deviation > 0:
                ratio += (abs(u) + abs(v)) / 2 / deviation
        total += math.log(ratio) if ratio > 0 else 0.0
    assert score("zico", student) == pytest.approx(total, rel=1e-9)


def test_gradsign_from_each_image_alone(student: Candidate) -> None:
    signs = [np.concatenate([np.sign(g).ravel() for g in gradients_of(student, slice(i, i + 1))]) for i in range(BATCH)]
    assert score("gradsign", student) == pytest.approx(float(np.abs(np.sum(signs, 0)).sum()), rel=1e-9)


def test_synflow_conserves_its_sum_from_layer_to_layer(student: Candidate) -> None:
    """In a chain of layers without biases, sum W dR/dW is R itself for each layer (Tanaka et al., theorem 1)."""
    chain = nn.Sequential(nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 4, 3, bias=False)).double()
    for p in chain.parameters():
        p.data.abs_()
    total = chain(torch.ones(1, 2, 6, 6, dtype=torch.float64)).sum()
    weights = list(chain.parameters())
    gradients = torch.autograd.grad(total, weights)
    assert gradient.synflow(weights, gradients).exp().item() == pytest.approx(2 * total.item(), rel=1e-9)


def test_synflow_of_a_network_without_its_norms(student: Candidate) -> None:
    model = copy.deepcopy(student.model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.BatchNorm2d):
                setattr(parent, name, nn.Identity())
    with torch.no_grad():
        for p in model.parameters():
            p.abs_()
    observe(model, torch.ones(1, 3, SIDE, SIDE, dtype=torch.float64)).logits.sum().backward()
    expected = math.log(sum(float((layer.weight.detach() * layer.weight.grad).abs().sum()) for layer in layers(model)))
    before = {name: value.clone() for name, value in student.model.state_dict().items()}
    logits = student.images.observation.logits
    assert score("synflow", student) == pytest.approx(expected, rel=1e-9)
    assert all(torch.equal(before[name], value) for name, value in student.model.state_dict().items())
    again = observe(student.model, student.input("images"))
    assert torch.equal(again.logits, logits)
    fresh = torch.autograd.grad(F.cross_entropy(again.logits, student.target), student.images.weights)
    assert all(torch.equal(a, b) for a, b in zip(student.images.gradients, fresh, strict=True))  # the earlier graph still holds


def jacobian(student: Candidate) -> np.ndarray[Any, Any]:
    images = student.input("images").clone().requires_grad_()
    observe(copy.deepcopy(student.model), images).logits.sum().backward()
    assert images.grad is not None
    return images.grad.flatten(1).numpy()


def test_jacov_by_numpy(student: Candidate) -> None:
    values = np.linalg.eigvalsh(np.corrcoef(jacobian(student)))
    assert score("jacov", student) == pytest.approx(-sum(math.log(v + 1e-5) + 1 / (v + 1e-5) for v in values), rel=1e-6)


def test_epe_nas_by_loops_over_classes(student: Candidate) -> None:
    rows, total = jacobian(student), 0.0
    for label in range(CLASSES):
        members = [n for n in range(BATCH) if int(student.target[n]) == label]
        if len(members) > 1:
            correlations = np.corrcoef(rows[members])
            total += abs(sum(math.log(abs(r) + 1e-5) for r in correlations.ravel()))
    assert score("epe_nas", student) == pytest.approx(total, rel=1e-6)
    with pytest.raises(ValueError, match="no class has two images"):
        spectrum.epe_nas(torch.randn(2, 5), torch.tensor([0, 1]))


def relu_inputs(student: Candidate, run: Callable[[nn.Module], Any]) -> list[np.ndarray[Any, Any]]:
    model, seen = copy.deepcopy(student.model), []
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_forward_pre_hook(lambda _m, x: seen.append(x[0].detach().flatten(1).numpy()))
    run(model)
    return seen


def test_nwot_by_loops_over_pairs_of_images(student: Candidate) -> None:
    kernel = np.zeros((BATCH, BATCH))
    for x in relu_inputs(student, lambda model: observe(model, student.input("images"))):
        for n in range(BATCH):
            for m in range(BATCH):
                kernel[n, m] += ((x[n] > 0) == (x[m] > 0)).sum()
    assert score("nwot", student) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-6)


def test_nwot_of_images_that_cannot_be_told_apart_is_finite() -> None:
    from diswot.proxies.activation import nwot

    assert math.isfinite(nwot(torch.full((3, 3), 10.0)))
    assert nwot(torch.full((3, 3), 10.0)) < nwot(torch.full((3, 3), 10.0) + torch.eye(3))


def other_trace(student: Candidate) -> ForwardPass:
    """Of a teacher of its own weights on the same images."""
    torch.manual_seed(5)
    return ForwardPass(Small().double().eval(), student.input("images"), student.target, frozenset({"graph", "blocks"}))


@pytest.mark.parametrize(("name", "place"), [("relation_jacobian", 0), ("relation_stem_grad", 1)])
def test_relations_of_gradients_by_loops_over_pairs_of_images(student: Candidate, name: str, place: int) -> None:
    teacher = other_trace(student)
    grams = []
    for trace in (teacher, student.images):
        rows = trace.gradients_seen[place].flatten(1).numpy()
        gram = np.array([[a @ b for b in rows] for a in rows])
        grams.append(gram / np.sqrt((gram**2).sum(1, keepdims=True)))
    assert score(name, student, teacher.forget()) == pytest.approx(-((grams[0] - grams[1]) ** 2).sum() / BATCH**2, rel=1e-9)
    assert score(name, student, student.images.forget()) == pytest.approx(0, abs=1e-12)


def test_the_gradient_at_the_stem_leads_back_to_the_images(student: Candidate) -> None:
    """Pulled back through the stem by hand, it is the gradient at the images."""
    at_images, at_stem = student.images.gradients_seen
    images = student.input("images").clone().requires_grad_()
    with watch_blocks(student.model) as blocks:
        observe(student.model, images)
    (pulled,) = torch.autograd.grad(blocks[0].output, images, at_stem)
    torch.testing.assert_close(pulled, at_images, rtol=1e-9, atol=1e-12)


def test_spread_and_entropy_by_numpy(student: Candidate) -> None:
    """Of the first stage: the block at the finest resolution."""
    blocks = [block.detach().numpy() for block in student.images.blocks]
    assert list(student.images.first_stage) == [1]

    def entropy_of(matrix: np.ndarray[Any, Any]) -> float:
        values = np.linalg.eigvalsh(matrix).clip(0)
        share = values / values.sum()
        return float(-(share * np.log(share + 1e-8)).sum())

    pixels = np.moveaxis(blocks[1], 1, -1).reshape(-1, blocks[1].shape[1])
    directions = pixels / np.linalg.norm(pixels, axis=1, keepdims=True).clip(1e-12)
    expected = entropy_of(directions.T @ directions / len(pixels))
    assert score("direction_entropy", student) == score("direction_entropy_first", student) == pytest.approx(expected, rel=1e-6)
    assert score("entropy", student) == pytest.approx(entropy_of(np.cov(pixels.T, bias=True)), rel=1e-6)


def test_diversity_and_calm_by_numpy(student: Candidate) -> None:
    stem = student.images.gradients_seen[1].flatten(1).numpy()
    assert score("diversity", student) == pytest.approx(np.log(np.linalg.eigvalsh(np.corrcoef(stem)) + 1e-3).sum(), rel=1e-6)
    assert score("neg_jacobian_log_norm", student) == pytest.approx(-np.log(np.linalg.norm(jacobian(student), axis=1)).mean(), rel=1e-9)


def test_swap_counts_the_columns_of_signs(student: Candidate) -> None:
    initialise(student.model, "gaussian", 7)
    patterns = {tuple(column > 0) for x in relu_inputs(student, lambda model: observe(model, student.input("images"))) for column in x.T}
    assert score("swap", student) == pytest.approx(math.log(len(patterns)), rel=1e-12)


def test_te_regions_counts_the_rows_of_signs(student: Candidate) -> None:
    inputs = torch.randn(passes.REGION_INPUTS, 3, 3, 3, generator=student.generator(3)).double()
    signs = np.concatenate([x > 0 for x in relu_inputs(student, lambda model: observe(model, inputs))], 1)
    assert score("te_regions", student) == len({row.tobytes() for row in signs})


def test_te_ntk_by_numpy(student: Candidate) -> None:
    rows = []
    for n in range(BATCH):
        model = copy.deepcopy(student.model)
        observe(model, student.input("images")).logits[n].sum().backward()
        rows.append(np.concatenate([layer.weight.grad.numpy().ravel() for layer in layers(model)]))
    values = np.linalg.eigvalsh(np.array(rows) @ np.array(rows).T)
    assert score("te_ntk", student) == pytest.approx(-values[-1] / values[0], rel=1e-6)


def block_maps(student: Candidate) -> list[Tensor]:
    with watch_blocks(student.model) as blocks:
        observe(student.model, student.input("noise").requires_grad_())
    return [block.output for block in blocks]


def test_az_nas_expressivity_and_progressivity_by_numpy(student: Candidate) -> None:
    entropies = []
    for block in block_maps(student):
        values = np.linalg.eigvalsh(np.cov(block.detach().transpose(0, 1).flatten(1).numpy(), bias=True)).clip(0)
        share = values / values.sum()
        entropies.append(-sum(p * math.log(p + 1e-8) for p in share))
    assert len(entropies) == 4  # the stem and three blocks
    assert score("az_expressivity", student) == pytest.approx(sum(entropies), rel=1e-6)
    assert score("az_progressivity", student) == pytest.approx(min(b - a for a, b in itertools.pairwise(entropies)), abs=1e-6)


def test_az_nas_trainability_block_by_block(student: Candidate) -> None:
    blocks, generator, expected = block_maps(student), student.generator(4), []
    for inner, outer in itertools.pairwise(blocks):
        signs = torch.randint(0, 2, outer.shape, generator=generator).to(outer) * 2 - 1
        (back,) = torch.autograd.grad(outer, inner, signs, retain_graph=True)
        if back.shape[-1] != signs.shape[-1]:
            back = F.pixel_unshuffle(back, 2)
        matrix = np.zeros((back.shape[1], signs.shape[1]))
        for n in range(BATCH):
            for i in range(signs.shape[2]):
                for j in range(signs.shape[3]):
                    matrix += np.outer(back[n, :, i, j], signs[n, :, i, j])
        top = np.linalg.svd(matrix / (BATCH * signs.shape[2] * signs.shape[3]))[1][0]
        expected.append(2 - top - 1 / (top + 1e-6))
    assert score("az_trainability", student) == pytest.approx(np.mean(expected), rel=1e-6)


def test_maps_whose_sides_do_not_divide_are_padded() -> None:
    assert math.isfinite(spectrum.block_trainability(torch.randn(2, 3, 7, 7), torch.randn(2, 5, 4, 4)))


def test_zen_by_hand(student: Candidate) -> None:
    initialise(student.model, "gaussian", 7)
    model, scales = copy.deepcopy(student.model), []
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(lambda _m, x: scales.append(math.sqrt(float(x[0].detach().var((0, 2, 3)).mean()))))
    noise = student.input("noise")
    step = torch.randn(noise.shape, generator=student.generator(2)).double()
    before = observe(model, noise).features
    of_first = list(scales)
    change = float((observe(model, noise + 0.01 * step).features - before).detach().abs().mean())
    assert score("zen", student) == pytest.approx(math.log(change) + sum(map(math.log, of_first)), rel=1e-9)


def evaluated(model: nn.Module) -> nn.Module:
    """A copy of a network as `eval()` makes it, its running statistics still those of its birth."""
    other = copy.deepcopy(model).eval()
    for module in other.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.track_running_stats = True
    return other


def test_fisher_matrix_by_finite_differences_image_by_image(student: Candidate) -> None:
    with torch.no_grad():
        found = passes.fisher_matrix(student)
    model, step = evaluated(student.model), 1e-6
    tensors = [p for _, p in model.named_parameters()][: passes.FISHER_TENSORS]
    assert found.shape == (len(tensors), len(tensors))
    expected = torch.zeros_like(found)
    with torch.no_grad():
        for n in range(BATCH):
            image = student.input("noise")[n : n + 1]
            rows = []
            for tensor in tensors:
                entry = tensor.view(-1)[:1]
                entry += step
                ahead = observe(model, image).logits[0]
                entry -= 2 * step
                rows.append((ahead - observe(model, image).logits[0]) / (2 * step))
                entry += step
            p = observe(model, image).logits[0].softmax(0) * 0.95 + 0.05 / CLASSES
            slopes = torch.stack(rows)
            expected += slopes @ (torch.diag(p) - torch.outer(p, p)) @ slopes.T / BATCH
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * float(expected.abs().max()))


def test_fisher_matrix_where_norms_have_their_activation_with_them() -> None:
    """timm fuses them; the shift of a norm's parameter comes before the activation."""
    torch.manual_seed(0)
    model = disable_inplace(timm.create_model("mobilenetv2_035", num_classes=3)).double()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    candidate = student_of(model, images, torch.tensor([0, 1]))
    with batch_statistics(model), torch.no_grad():
        found = passes.fisher_matrix(candidate)
    expected, plain = 0.0, evaluated(model)
    for n in range(2):
        logits = observe(plain, candidate.input("noise")[n : n + 1]).logits[0]
        rows = [torch.autograd.grad(logit, plain.bn1.bias, retain_graph=True)[0][0] for logit in logits]
        p = logits.detach().softmax(0) * 0.95 + 0.05 / 3
        expected += float(torch.stack(rows) @ (torch.diag(p) - torch.outer(p, p)) @ torch.stack(rows)) / 2
    place = [name for name, _ in model.named_parameters()].index("bn1.bias")
    assert float(found[place, place]) == pytest.approx(expected, rel=1e-6)


def test_vkdnw_ranks_by_the_number_of_tensors_first(student: Candidate) -> None:
    value = score("vkdnw", student)
    assert int(value) == len(list(student.model.parameters()))
    assert 0 < value % 1 <= math.log(9) / 3


def test_a_loss_is_a_proxy_with_its_sign_turned(student: Candidate) -> None:
    teacher = observe(Small().double().eval(), student.input("images"))
    expected = -losses.kd(student.images.observation.logits, teacher.logits).detach()
    assert score("loss:kd", student, NetworkSummary(teacher, student.target)) == pytest.approx(0.9 * float(expected), rel=1e-6)
    with pytest.raises(ConfigError, match="looks at no teacher"):
        get_proxy("loss:none")
    with pytest.raises(ConfigError, match="did you mean kd"):
        resolve_ranking("loss:kdd")


@pytest.mark.parametrize("name", ["fitnets", "ickd", "ofd", "afd", "mgd", "pefd"])
def test_a_loss_with_parameters_is_no_proxy(name: str) -> None:
    with pytest.raises(ConfigError, match="parameters of its own"):
        get_proxy(f"loss:{name}")


@pytest.mark.parametrize("name", ["at", "nst", "rkd", "sp", "cc", "pkt", "dist"])
def test_losses_of_stages_and_of_relations_are_proxies(student: Candidate, name: str) -> None:
    teacher = ForwardPass(Small().double().eval(), student.input("images"), student.target, frozenset({"blocks", "graph"}))
    assert -math.inf < score(f"loss:{name}", student, teacher) <= 0


FOREIGN = ["resnet10t", "mobilenetv2_035", "shufflenetv1"]


@pytest.mark.parametrize("name", FOREIGN)
def test_every_proxy_works_on_foreign_networks(name: str) -> None:
    from diswot.models.teachers import build_teacher

    torch.manual_seed(0)
    model = disable_inplace(build_teacher(name, CLASSES, 3, 64)).to(memory_format=torch.channels_last)
    images = torch.randn(4, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    target = torch.tensor([0, 0, 1, 1])
    teacher = Small()
    with batch_statistics(teacher):
        view = ForwardPass(teacher, images, target, frozenset({"blocks", "graph"})).forget()
    with batch_statistics(model):
        candidate = student_of(model, images, target)
        for proxy in (name for name in PROXIES if name != "semantic_outer"):
            if name.startswith("mobilenet") and proxy.startswith("semantic_cam"):
                continue  # its head has a layer between the map and the classifier
            assert math.isfinite(score(proxy, candidate, view)), proxy


class Unusual(nn.Module):
    """timm's protocol round layers that are easily got wrong: an activation in place right after a convolution, a grouped convolution, an
    operation in place, a linear layer on channels-last maps, a layer that is used twice, one that never is, a norm of sequences."""

    def __init__(self, inplace: bool = False, padding_mode: str = "zeros") -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, padding_mode=padding_mode)
        self.act = nn.Hardswish(inplace=inplace)
        self.grouped = nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2)
        self.mixer = nn.Linear(4, 4)
        self.twice = nn.Conv2d(4, 4, 1, bias=False)
        self.unused = nn.Linear(5, 5)
        self.norm = nn.BatchNorm1d(4)
        self.head = nn.Linear(4, CLASSES)

    def forward_features(self, x: Tensor) -> Tensor:
        x = self.grouped(self.act(self.stem(x)))
        x.mul_(1.5)
        x = self.mixer(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return self.twice(F.relu(self.twice(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = self.norm(x.flatten(2)).mean(2)
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        return self.head


def test_fisher_matrix_of_unusual_layers_by_autograd_image_by_image() -> None:
    torch.manual_seed(0)
    model = disable_inplace(Unusual(inplace=True)).double()
    candidate = student_of(model, torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2]))
    with batch_statistics(model), torch.no_grad():
        found = passes.fisher_matrix(candidate)
    plain, expected = evaluated(model), torch.zeros_like(found)
    for image in candidate.input("noise"):
        logits = observe(plain, image[None]).logits[0]
        rows = [torch.autograd.grad(logit, list(plain.parameters()), retain_graph=True, materialize_grads=True) for logit in logits]
        slopes = torch.tensor([[float(gradient.detach().view(-1)[0]) for gradient in row] for row in rows], dtype=torch.float64)
        p = logits.detach().softmax(0) * 0.95 + 0.05 / CLASSES
        expected += slopes.T @ (torch.diag(p) - torch.outer(p, p)) @ slopes / 3
    assert len(found) == len(list(model.parameters())) == 13
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (lambda: Unusual(padding_mode="reflect"), "Conv2d"),
        (lambda: timm.create_model("nf_resnet26", num_classes=CLASSES), "ScaledStdConv2d"),
    ],
)
def test_fisher_matrix_of_layers_it_does_not_know_is_refused(model: Callable[[], nn.Module], says: str) -> None:
    network = model()
    with batch_statistics(network), pytest.raises(ValueError, match=says):
        passes.fisher_matrix(student_of(network, torch.randn(2, 3, 32, 32), torch.tensor([0, 1])))


@pytest.mark.parametrize(("proxy", "name"), [("synflow", "convnext_atto"), ("synflow", "nf_resnet26"), ("zen", "convnext_atto")])
def test_proxies_that_mean_nothing_without_batch_norm_say_so(proxy: str, name: str) -> None:
    network = disable_inplace(timm.create_model(name, num_classes=CLASSES))
    with batch_statistics(network), pytest.raises(ValueError, match="and the network has"):
        score(proxy, student_of(network, torch.randn(2, 3, 64, 64), torch.tensor([0, 1])))


def test_units_of_timms_own_activations_are_seen() -> None:
    network = disable_inplace(timm.create_model("convnext_atto", num_classes=CLASSES))
    with batch_statistics(network):
        assert math.isfinite(score("nwot", student_of(network, torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 2, 3]))))


def test_fisher_of_tokens_sums_over_places_and_not_over_channels() -> None:
    """The linear layer of `Unusual` sees (B, H, W, C): its share is that of the same layer as a 1x1 convolution."""
    torch.manual_seed(0)
    model = disable_inplace(Unusual()).double()
    images, target = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64), torch.tensor([0, 1, 2])
    with batch_statistics(model):
        candidate = student_of(model, images, target)
        outputs, gradients = ([x.detach() for x in xs] for xs in candidate.images.outputs)
        assert [tuple(output.shape) for output in outputs][2] == (3, 4, 4, 4)
        expected = sum(
            0.5 * sum(float((a[n, c] * g[n, c]).sum()) ** 2 for n in range(3)) / 3
            for a, g in zip(outputs, gradients, strict=True)
            for c in range(a.shape[1])
        )
        mixed = model.mixer(model.grouped(model.act(model.stem(images))).mul(1.5).permute(0, 2, 3, 1))
        torch.testing.assert_close(outputs[2], mixed.movedim(-1, 1))
        assert score("fisher", candidate) == pytest.approx(expected, rel=1e-9)


def test_in_place_activations_change_nothing() -> None:
    """An activation in place overwrites the output of the convolution before it, which `fisher` looks at."""
    images, target = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 0])

    def scored(model: nn.Module) -> list[float]:
        with batch_statistics(model):
            candidate = student_of(model, images, target)
            return [score(name, candidate) for name in ("fisher", "nwot", "grad_norm", "jacov")]

    plain = scored(Unusual())
    assert scored(disable_inplace(Unusual(inplace=True))) == plain
    assert scored(Unusual(inplace=True)) != plain


def test_blocks_are_found_in_networks_of_all_kinds() -> None:
    counts = {}
    for name in ("resnet18", "mobilenetv3_small_050", "vgg11_bn", "convnext_atto", "efficientnet_b0"):
        model = timm.create_model(name, num_classes=3).eval()
        with watch_blocks(model) as blocks, torch.no_grad():
            features = model.forward_features(torch.zeros(1, 3, 64, 64))
        counts[name] = len(blocks)
        assert blocks[-1].shape == features.shape
        assert trunk_modules(model)
    assert counts["resnet18"] == 9  # the stem with its pooling, eight residual blocks
    assert counts["vgg11_bn"] == 8  # convolutions, each with what follows it


def test_a_cell_without_convolutions_is_a_block_too() -> None:
    from diswot.space import load_space

    space = load_space("nasbench201")
    pools = Architecture("nasbench201", "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|avg_pool_3x3~1|none~2|")
    for arch in (pools, *space.extremes()):
        model = space.build(arch, 10)
        with watch_blocks(model) as blocks, torch.no_grad():
            model(torch.zeros(1, 3, 32, 32))
        assert [block.shape[-1] for block in blocks] == [32] * 6 + [16] * 6 + [8] * 6  # the stem, and five cells a stage after a reduction


@pytest.mark.parametrize("name", ["jacov", "diversity", "neg_jacobian_log_norm", "epe_nas", "trainability", "te_ntk"])
def test_networks_that_ignore_their_input_have_no_score(name: str) -> None:
    """They would be the calmest and the least correlated of all."""
    from diswot.space import load_space

    space = load_space("nasbench201")
    dead = disable_inplace(space.build(space.extremes()[0], CLASSES))
    with batch_statistics(dead), pytest.raises(ValueError, match=r"no gradient|no block"):
        score(name, student_of(dead, torch.randn(4, 3, 32, 32), torch.tensor([0, 0, 1, 1])))


def test_passes_are_made_once(student: Candidate, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("diswot.proxies.views.observe", lambda *a: calls.append(1) or observe(*a))
    for name in ("grad_norm", "snip", "plain", "fisher", "jacov", "epe_nas", "nwot", "grasp"):
        score(name, student)
    assert len(calls) == 1


def test_rankings_name_known_proxies() -> None:
    assert resolve_ranking("az_nas").combine == "log"
    assert resolve_ranking("vkdnw_agg").parts == ("vkdnw", "az_expressivity", "az_trainability", "flops", "jacov")
    assert resolve_ranking("diswot").batch == 4
    assert resolve_ranking("diswot,nwot").batch == 32
    with pytest.raises(ConfigError, match="at least one"):
        resolve_ranking(" , ")


def test_a_ranking_sees_a_teacher_without_maps_by_another_part_and_keeps_its_weights(student: Candidate) -> None:
    blind = NetworkSummary(student.images.observation.detach(), student.target)  # no blocks, as of a transformer
    ranking = adapt_to_teacher(resolve_ranking("diswot+"), "diswot+", [blind])
    assert ranking.weighted == {
        **{part: weight for part, weight in resolve_ranking("diswot+").weighted.items() if part != "relation_stem_grad"},
        "relation_jacobian": 1.0,
    }
    twice = Ranking(("relation_jacobian", "params", "relation_stem_grad"), "log", (3.0, 2.0, 1.0))  # its stand-in is there already
    assert adapt_to_teacher(twice, "mine", [blind]).weighted == {"relation_jacobian": 3.0, "params": 2.0}
    with pytest.raises(TeacherError, match="use relation_jacobian"):
        adapt_to_teacher(resolve_ranking("relation_stem_grad"), "relation_stem_grad", [blind])
    with pytest.raises(TeacherError, match="use relation_jacobian"):
        adapt_to_teacher(resolve_ranking("diswot, relation_stem_grad"), "diswot, relation_stem_grad", [blind])

"""Is decoding the bottleneck? Images a second that are decoded and augmented, against those that a training step can take.

    python scripts/benchmark_decoding.py                                          # JPEGs of 500x375, as ImageNet's are
    python scripts/benchmark_decoding.py --size 4000x3000 --input-size 64         # photographs, for a small network
    python scripts/benchmark_decoding.py --network resnet50 --device cuda --precision bf16 --batch-size 256 --workers 16

Side by side in one run, in alternating rounds, on the same files:

- `plain`: a DataLoader over PIL images decoded at full size, with timm's training transforms, as training scripts have it;
- `ours`: diswot's loader for images that do not fit in memory;
- `step`: forward, backward and update of the network on a batch that lies ready;
- `test, plain` and `test, ours`: test images scaled and cropped one after the other, and as diswot does.

`ours` over `step` says who waits: above 1 it is the network. The images are photographs' stand-ins: smooth noise of many scales, in JPEG
quality 90, about as large a file as a photograph of that size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from diswot.config.training import Recipe
from diswot.data.images import DecodedImages, fit_square
from diswot.data.sources import Files
from diswot.training.batches import BatchRequirements, TrainingSet
from diswot.training.decoding import DecodingLoader
from diswot.training.distributed import DistributedContext


def write_images(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """Write JPEGs of noise that has as much at each scale as at the next (a photograph's spectrum)."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        pixels = np.zeros((height, width, 3), np.float32)
        scale = 4
        while scale <= max(width, height):
            grid = rng.normal(size=(max(height // scale, 1), max(width // scale, 1), 3)).astype(np.float32)
            layers = [np.asarray(Image.fromarray(grid[..., c]).resize((width, height), Image.Resampling.BICUBIC)) for c in range(3)]
            pixels += np.stack(layers, 2)
            scale *= 2
        paths.append(folder / f"{number:04}.jpg")
        Image.fromarray((128 + 24 * pixels).clip(0, 255).astype(np.uint8)).save(paths[-1], quality=90)
    return paths


def rate(work: Callable[[], int]) -> float:
    """How many images a second `work`, which returns their number, takes."""
    begin = time.perf_counter()
    return work() / (time.perf_counter() - begin)


class _PlainSet(torch.utils.data.Dataset):  # type: ignore[type-arg]
    def __init__(self, paths: list[Path], side: int) -> None:
        self.paths = paths
        self.transform = timm.data.create_transform(side, is_training=True, use_prefetcher=True, color_jitter=None)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self.transform(Image.open(self.paths[index]).convert("RGB")), 0


def plain_loader(paths: list[Path], options: argparse.Namespace) -> Callable[[], int]:
    from timm.data.loader import fast_collate

    loader = torch.utils.data.DataLoader(
        _PlainSet(paths, options.input_size),
        options.batch_size,
        num_workers=options.workers,
        collate_fn=fast_collate,
        persistent_workers=options.workers > 0,
    )
    return lambda: sum(len(target) for _, target in loader)


def our_loader(paths: list[Path], options: argparse.Namespace) -> Callable[[], int]:
    labels = np.zeros(len(paths), np.int64)
    images = DecodedImages(labels, options.input_size, Files(paths))
    source = TrainingSet(images, np.arange(len(paths)), labels, 2)
    recipe = Recipe(batch_size=options.batch_size, augment="resized")
    loader = DecodingLoader(source, recipe, options.device, DistributedContext(), BatchRequirements(), options.workers)
    return lambda: sum(len(batch.target) for batch in loader.epoch(0))


def step(options: argparse.Namespace) -> Callable[[], int]:
    network = timm.create_model(options.network, num_classes=1000).to(options.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, 0.9)
    shape = (options.batch_size, 3, options.input_size, options.input_size)
    pixels = torch.randn(shape, device=options.device).contiguous(memory_format=torch.channels_last)
    target = torch.zeros(options.batch_size, dtype=torch.int64, device=options.device)

    def work() -> int:
        for _ in range(options.steps):
            with torch.autocast(options.device, torch.bfloat16, enabled=options.precision == "bf16"):
                loss = F.cross_entropy(network(pixels), target)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        if options.device == "cuda":
            torch.cuda.synchronize()
        return options.steps * options.batch_size

    return work


def test_images(paths: list[Path], side: int) -> tuple[Callable[[], int], Callable[[], int]]:
    everything = np.arange(len(paths))

    def plain() -> int:
        return len(np.stack([fit_square(Image.open(path).convert("RGB"), side, 0.875) for path in paths]))

    def ours() -> int:  # a new set each time, or the images would be kept
        return len(DecodedImages(np.zeros(len(paths), np.int64), side, Files(paths), 0.875).images(everything))

    return plain, ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="500x375", help="width and height of the JPEGs")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--input-size", type=int, default=224)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="steps of the network in a round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    options = parser.parse_args()
    width, height = (int(word) for word in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        paths = write_images(Path(folder), options.images, width, height)
        size = statistics.mean(path.stat().st_size for path in paths)
        print(f"{len(paths)} JPEGs of {width}x{height}, {size / 1e3:.0f} kB each; {options.network} at {options.input_size}")
        test_plain, test_ours = test_images(paths, options.input_size)
        ways = {
            "plain": plain_loader(paths, options),
            "ours": our_loader(paths, options),
            "step": step(options),
            "test, plain": test_plain,
            "test, ours": test_ours,
        }
        for work in ways.values():
            work()
        rates = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, work in ways.items():
                rates[name].append(rate(work))
    for name, values in rates.items():
        print(f"{name:12} {statistics.median(values):8.0f} images/s")
    for above, below in (("ours", "plain"), ("ours", "step"), ("test, ours", "test, plain")):
        ratios = [a / b for a, b in zip(rates[above], rates[below], strict=True)]
        print(f"{above} / {below}: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()

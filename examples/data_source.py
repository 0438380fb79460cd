"""A data source of one's own: stripes in four directions, drawn in code.

diswot train resnet8 --data data_source:Stripes --epochs 5
diswot search --data data_source:Stripes --params 0.3M
"""

import numpy as np

from diswot.data import ArrayImages, DataRequest, Dataset, DataSource

NAMES = ["horizontal", "vertical", "rising", "falling"]


class Stripes(DataSource):
    def load(self, request: DataRequest) -> Dataset:
        side = request.input_size or 32
        return Dataset(request.source, self.draw(400, side, 0), self.draw(100, side, 1), NAMES)

    def draw(self, count: int, side: int, seed: int) -> ArrayImages:
        rng = np.random.default_rng(seed)
        labels = np.arange(count) % len(NAMES)
        rows, columns = np.mgrid[:side, :side]
        directions = np.stack([rows, columns, rows + columns, rows - columns])
        waves = np.sin(directions[labels] * rng.uniform(0.5, 1.5, (count, 1, 1)) + rng.uniform(0, 6, (count, 1, 1)))
        noisy = 128 + 90 * waves[..., None] + rng.normal(0, 25, (count, side, side, 3))
        return ArrayImages(noisy.clip(0, 255).astype(np.uint8), labels)

"""Images: where they come from (`sources`), how they are held (`images`), and the batches that proxies see (`batches`)."""

from diswot.data.batches import ProxyBatch, proxy_batches
from diswot.data.images import ArrayImages, Dataset
from diswot.data.sources import GENERATED_SOURCES, REMOTE, SOURCES, DataRequest, DataSource, cache_dir, load_data, load_unlabelled

__all__ = [
    "GENERATED_SOURCES",
    "REMOTE",
    "SOURCES",
    "ArrayImages",
    "DataRequest",
    "DataSource",
    "Dataset",
    "ProxyBatch",
    "cache_dir",
    "load_data",
    "load_unlabelled",
    "proxy_batches",
]

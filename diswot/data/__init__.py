"""Images: where they come from (`sources`), how they are held (`images`), and the batches that proxies see (`batches`)."""

from diswot.data.batches import ProxyBatch, proxy_batches
from diswot.data.images import Dataset
from diswot.data.sources import REMOTE, SOURCES, home, load_data, load_unlabelled

__all__ = ["REMOTE", "SOURCES", "Dataset", "ProxyBatch", "home", "load_data", "load_unlabelled", "proxy_batches"]

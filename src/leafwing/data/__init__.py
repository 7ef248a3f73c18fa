"""From a folder, an archive or a built-in data set to batches. Importing this package does not import torch.

`load` opens a source, `load_pack` an existing pack, `WORLDS` lists the built-in data sets. `leafwing.data.doctor` reports what a
source contains. Nothing here depends on a recipe.
"""

from leafwing.data.dataset import Dataset
from leafwing.data.loading import load, load_pack
from leafwing.data.sources import Reject
from leafwing.data.worlds import WORLDS

__all__ = ["WORLDS", "Dataset", "Reject", "load", "load_pack"]

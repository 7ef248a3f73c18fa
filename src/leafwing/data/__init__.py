"""From a folder, an archive or a built-in data set to batches. Importing this package does not import torch.

`load` opens a source, `load_pack` an existing pack, `BUILT_IN` lists the built-in data sets. `leafwing.data.doctor` reports what a
source contains. Nothing here depends on a recipe.
"""

from leafwing.data.built_in import BUILT_IN
from leafwing.data.changes import Changes, compare
from leafwing.data.dataset import Dataset
from leafwing.data.loading import load, load_pack
from leafwing.data.sources import RejectedFile

__all__ = ["BUILT_IN", "Changes", "Dataset", "RejectedFile", "compare", "load", "load_pack"]

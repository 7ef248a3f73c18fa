"""A folder, archive or built-in world of pictures in, batches out. Importing it imports no torch.

`load` opens a source, `load_pack` what was packed before, `WORLDS` names what is built in. `leafwing.data.doctor` looks at a
source and says what is in it. Nothing here knows a recipe.
"""

from leafwing.data.dataset import Dataset
from leafwing.data.loading import load, load_pack
from leafwing.data.sources import Reject
from leafwing.data.worlds import WORLDS

__all__ = ["WORLDS", "Dataset", "Reject", "load", "load_pack"]

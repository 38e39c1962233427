import json
from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[2].parent / "shared/golden/segmentation"


@pytest.fixture(scope="session")
def segmentation_golden():
    """A function: file name -> its arrays or JSON, for those who have the golden data beside the repository."""

    def read(name: str):
        path = SHARED / name
        if not path.is_file():
            pytest.skip(f"no golden data in {SHARED}")
        return json.loads(path.read_text()) if path.suffix == ".json" else np.load(path)

    return read

"""MATLAB's .mat files, which MPII and Leeds Sports Pose are published in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from psa_pose.errors import DataError


def read_mat(path: Path, what: str, key: str) -> dict[str, Any]:
    """The arrays of a .mat file by name. what: the file in a message. key: the config's key that names it.

    Raises DataError for a file that is missing or none.
    """
    # Slow to import, and only needed here.
    from scipy.io import loadmat

    try:
        return loadmat(path)
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read: {error.strerror}; check {key}") from None
    except Exception as error:  # SciPy's reader lets all kinds through for a damaged file.
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{what} {path} is no usable .mat file ({reason}); fetch it again") from None

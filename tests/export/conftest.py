import pytest

from psa_pose.models import hrnet, resnet
from psa_pose.models.blocks import BasicBlock


@pytest.fixture(scope="module", autouse=True)
def shallow():
    """Tracing takes as long as a network is deep: one of everything is enough here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(resnet.DEPTHS, 18, (BasicBlock, (1, 1, 1, 1)))
        patch.setattr(hrnet, "BLOCKS_PER_BRANCH", 1)
        patch.setattr(hrnet, "MODULES_PER_STAGE", (1, 1, 1))
        yield

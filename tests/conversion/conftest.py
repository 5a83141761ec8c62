"""A tiny random model in the original's layout, and a cache of its own for every test."""

import pytest

from tests.reference import peers
from tests.reference.variants import TINY, TINY_NARROW


@pytest.fixture(autouse=True)
def cache(hf_home):
    """HF_HOME, empty; no network but the loopback, no waiting."""
    return hf_home


@pytest.fixture(scope="session", params=[TINY, TINY_NARROW], ids=lambda variant: variant.name)
def any_weights(request):
    """Both tiny models: with an odd ratio, and with a latent width of its own."""
    return _make_weights(request.param)


@pytest.fixture(scope="session")
def weights():
    return _make_weights(TINY)


def _make_weights(variant):
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    from tests.reference import checkpoints

    return checkpoints.make_weights(variant)


@pytest.fixture
def original(weights, tmp_path):
    """What the original `.pth` file holds; `save` writes it, changed or not, and gives its path."""
    import torch

    from tests.reference import checkpoints

    state = checkpoints.descript_state(weights)

    class Original:
        def __init__(self):
            self.state = {name: tensor.clone() for name, tensor in state.items()}
            self.kwargs = checkpoints.descript_kwargs(weights.variant)

        def save(self, name="weights.pth", **options):
            checkpoint = {"state_dict": self.state, "metadata": {"kwargs": self.kwargs}}
            torch.save(checkpoint, tmp_path / name, **options)
            return tmp_path / name

    return Original()

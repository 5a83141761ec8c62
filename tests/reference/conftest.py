"""The small models of these tests gain nothing from a second thread, and wait for it when busy."""

import pytest

from . import peers


@pytest.fixture(scope="package", autouse=True)
def _one_torch_thread():
    if peers.missing_transformers():
        yield
        return
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

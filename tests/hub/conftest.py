"""One tiny DAC model, and the repository that holds it."""

import pytest

from .models import ID, files_of


@pytest.fixture
def files(tiny_folder):
    """{name: content} of the model's folder."""
    return files_of(tiny_folder)


@pytest.fixture
def model(hub, files):
    """The repository `ID`."""
    return hub.create(ID, files)

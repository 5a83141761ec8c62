"""Fixtures of the parity tests: checkpoints, reference results computed once, near-ties told."""

import functools
import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.reference import inputs, peers
from tests.reference.encoding import Encoding

HERE = Path(__file__).resolve().parent
REFERENCES = ("transformers", "descript")


@pytest.fixture(scope="module")
def variant(request):
    """The model shape; test modules parametrize it indirectly."""
    return request.param


@pytest.fixture(scope="module", params=REFERENCES)
def reference(request):
    """Which reference implementation to compare with; skipped where it is not installed."""
    if reason := missing(request.param):
        pytest.skip(reason)
    return request.param


def missing(reference):
    """Why a reference cannot run here, or None."""
    if reference == "descript":
        return peers.missing_transformers() or peers.missing_descript()
    if reference == "encodec":
        return peers.missing_transformers() or peers.missing_encodec()
    return peers.missing_transformers()


@pytest.fixture(scope="module")
def checkpoint(variant, tmp_path_factory):
    """One set of random weights in both references' layouts; deleted with the module's variant."""
    if reason := peers.missing_transformers():
        pytest.skip(reason)
    from tests.reference import checkpoints

    folder = tmp_path_factory.mktemp(f"checkpoint_{variant.name}")
    weights = checkpoints.make_weights(variant)
    yield {
        "transformers": checkpoints.write_transformers_folder(weights, folder / "transformers"),
        "descript": checkpoints.write_descript_file(weights, folder / "weights.pth"),
        "converted": folder / "converted",
    }
    shutil.rmtree(folder)


class ReferenceResults:
    """What a reference makes of the named inputs, each computed once, in batches of one."""

    def __init__(self, oracle, variant):
        self.oracle = oracle
        self.variant = variant
        self.encoding = functools.cache(self._encoding)
        self.decoded = functools.cache(self._decoded)

    def audio(self, name):
        """The input as the reference's preprocessing pads it, float32 [1, 1, T]."""
        return inputs.pad_to_hop(self.unpadded_audio(name), self.variant.hop_length)

    def unpadded_audio(self, name):
        """The input as it is, float32 [1, 1, T]."""
        audio = inputs.make_input(name, self.variant.sampling_rate, self.variant.hop_length)
        return audio[None, None]

    def _encoding(self, name):
        return self.oracle.encode(self.audio(name))

    def _decoded(self, name):
        return self.oracle.decode_codes(self.encoding(name).codes)

    def distances(self, name):
        """Distances along the reference's codes for this input, computed when first needed."""
        return self.oracle.distances(self.audio(name), self.encoding(name).codes)


@pytest.fixture(scope="module")
def oracles(checkpoint, variant):
    """`oracles(reference)` loads a reference once for the module's variant."""
    import torch

    from tests.reference.oracles import DescriptOracle, TransformersOracle

    is_small = variant.encoder_hidden_size < 64  # a second thread would only be waited for
    torch.set_num_threads(1 if is_small else 2)
    classes = {"transformers": TransformersOracle, "descript": DescriptOracle}

    @functools.cache
    def load(reference):
        if reason := missing(reference):
            pytest.skip(reason)
        return classes[reference](checkpoint[reference])

    return load


@pytest.fixture(scope="module")
def results_of(oracles, variant):
    """`results_of(reference)`: its ReferenceResults, shared by all tests of the variant."""
    return functools.cache(lambda reference: ReferenceResults(oracles(reference), variant))


@pytest.fixture(scope="module")
def results(results_of, reference):
    """ReferenceResults of the parametrized reference."""
    return results_of(reference)


@pytest.fixture(scope="module")
def converted(checkpoint):
    """The folder that codax makes of the original `.pth` file."""
    import codax

    if not checkpoint["converted"].exists():
        codax.conversion.convert_checkpoint(checkpoint["descript"], checkpoint["converted"])
    return checkpoint["converted"]


@pytest.fixture(scope="module")
def model(reference, checkpoint, request):
    """codax's model of the same weights: from the folder, or from the converted `.pth` file."""
    import codax

    folder = checkpoint["transformers"]
    if reference == "descript":
        folder = request.getfixturevalue("converted")
    return codax.FlaxDacModel.from_pretrained(folder)


def encode(model, audio, **options):
    """codax's encoding as numpy arrays."""
    output = model.encode(audio, **options)
    return Encoding(
        codes=np.asarray(output.audio_codes),
        projected_latents=np.asarray(output.projected_latents),
        quantized=np.asarray(output.quantized_representation),
        loss=np.asarray(output.loss),
    )


@pytest.fixture
def tell_near_ties(request):
    """Call with an Agreement: its excused codes are listed at the end of the test run."""

    def tell(agreement):
        properties = request.node.user_properties
        properties.append(("codes compared", agreement.num_codes))
        properties.extend(("near-tie", str(excused)) for excused in agreement.excused)
        return agreement

    return tell


def pytest_terminal_summary(terminalreporter):
    """How many codes were compared, and every one that was excused."""
    properties = [
        found
        for reports in terminalreporter.stats.values()
        for report in reports
        for found in getattr(report, "user_properties", ())
    ]
    compared = sum(value for key, value in properties if key == "codes compared")
    near_ties = [value for key, value in properties if key == "near-tie"]
    if compared:
        terminalreporter.section("parity with the reference implementations")
        terminalreporter.line(f"{compared} codes compared, {len(near_ties)} near-ties excused")
        for near_tie in near_ties:
            terminalreporter.line(f"  {near_tie}")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Order each file's tests so that every checkpoint is written once.

    pytest's own order goes by test functions that share parameters, and would come back to a
    variant several times.
    """
    files = itertools.groupby(items, key=lambda item: item.path)
    items[:] = [item for _, tests in files for item in sorted(tests, key=_variant_and_reference)]


def _is_here(item):
    return item.path.parent == HERE


def _variant_and_reference(item):
    if not _is_here(item) or not hasattr(item, "callspec"):
        return "", ""
    parameters = item.callspec.params
    variant = parameters.get("variant")
    return getattr(variant, "name", ""), parameters.get("reference", "")

"""The table of the original's weight names."""

import pytest

from codax.configuration import DAC_PRESETS, DacConfig
from codax.conversion.keys_dac import original_modules, original_weight_rules
from codax.modeling.weight_table import dac_weight_rules
from tests.reference import peers

ARGUMENTS = {
    "dac_44khz": {},
    "dac_44khz_16kbps": {"n_codebooks": 18, "latent_dim": 128},
    "dac_24khz": {"encoder_rates": [2, 4, 5, 8], "decoder_rates": [8, 5, 4, 2], "n_codebooks": 32},
    "dac_16khz": {"encoder_rates": [2, 4, 5, 8], "decoder_rates": [8, 5, 4, 2], "n_codebooks": 12},
}


@pytest.mark.parametrize("preset", DAC_PRESETS)
def test_every_weight_has_one_original_name_of_its_own(preset):
    architecture = DacConfig.preset(preset).architecture
    modules = original_modules(architecture)
    assert {rule.torch_key.rpartition(".")[0] for rule in dac_weight_rules(architecture)} == set(
        modules
    )
    originals = [rule.torch_key for rule in original_weight_rules(architecture)]
    assert len(set(originals)) == len(originals) == len(dac_weight_rules(architecture))


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("encoder.conv1", "encoder.block.0"),
        ("encoder.block.0.res_unit1.snake1", "encoder.block.1.block.0.block.0"),
        ("encoder.block.3.res_unit3.conv2", "encoder.block.4.block.2.block.3"),
        ("encoder.block.0.snake1", "encoder.block.1.block.3"),
        ("encoder.block.0.conv1", "encoder.block.1.block.4"),
        ("encoder.snake1", "encoder.block.5"),
        ("encoder.conv2", "encoder.block.6"),
        ("quantizer.quantizers.8.codebook", "quantizer.quantizers.8.codebook"),
        ("decoder.conv1", "decoder.model.0"),
        ("decoder.block.0.snake1", "decoder.model.1.block.0"),
        ("decoder.block.0.conv_t1", "decoder.model.1.block.1"),
        ("decoder.block.3.res_unit1.conv1", "decoder.model.4.block.2.block.1"),
        ("decoder.snake1", "decoder.model.5"),
        ("decoder.conv2", "decoder.model.6"),
    ],
)
def test_released_model_is_numbered_as_published(name, original):
    assert original_modules(DacConfig.preset("dac_44khz").architecture)[name] == original


@pytest.mark.skipif(peers.missing_descript() is not None, reason=str(peers.missing_descript()))
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("preset", DAC_PRESETS)
def test_keys_and_shapes_are_those_of_the_original_package(preset):
    import torch

    with torch.device("meta"):
        model = peers.import_dac().DAC(**ARGUMENTS[preset])
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}

    rules = original_weight_rules(DacConfig.preset(preset).architecture)
    shapes = {rule.torch_key: rule.torch_shape for rule in rules}
    for key in [key for key in shapes if key.endswith(".weight") and "codebook" not in key]:
        shape = shapes.pop(key)
        shapes |= {f"{key}_v": shape, f"{key}_g": (shape[0], 1, 1)}
    assert shapes == expected

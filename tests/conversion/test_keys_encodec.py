"""The table of the encodec package's weight names."""

import pytest

from codax.configuration import ENCODEC_PRESETS, EncodecConfig
from codax.conversion.keys_encodec import original_encodec_rules
from codax.modeling.weight_table import encodec_weight_rules
from tests.reference import peers
from tests.tiny_encodec import MONO, STEREO

CONFIGS = {
    **{name: EncodecConfig.preset(name) for name in ENCODEC_PRESETS},
    "two residual blocks": EncodecConfig(**MONO, num_residual_layers=2),
    "identity shortcuts": EncodecConfig(**STEREO, use_conv_shortcut=False),
}


@pytest.fixture(params=CONFIGS.values(), ids=list(CONFIGS))
def architecture(request):
    return request.param.architecture


def test_every_weight_has_one_original_name_of_its_own(architecture):
    rules = encodec_weight_rules(architecture)
    originals = original_encodec_rules(architecture)
    assert len({rule.torch_key for rule in originals}) == len(originals) == len(rules)


def test_but_for_its_name_a_weight_is_that_of_transformers(architecture):
    for rule, original in zip(
        encodec_weight_rules(architecture), original_encodec_rules(architecture), strict=True
    ):
        assert (original.flax_path, original.flax_shape) == (rule.flax_path, rule.flax_shape)
        assert (original.torch_shape, original.layout) == (rule.torch_shape, rule.layout)
        assert original.weight_norm == rule.weight_norm


@pytest.mark.parametrize(
    ("preset", "name", "original"),
    [
        ("encodec_24khz", "encoder.layers.0.conv.weight", "encoder.model.0.conv.conv.weight"),
        (
            "encodec_24khz",
            "encoder.layers.1.block.3.conv.bias",
            "encoder.model.1.block.3.conv.conv.bias",
        ),
        (
            "encodec_24khz",
            "encoder.layers.1.shortcut.conv.bias",
            "encoder.model.1.shortcut.conv.conv.bias",
        ),
        (
            "encodec_24khz",
            "encoder.layers.13.lstm.weight_ih_l1",
            "encoder.model.13.lstm.weight_ih_l1",
        ),
        ("encodec_24khz", "encoder.layers.15.conv.bias", "encoder.model.15.conv.conv.bias"),
        (
            "encodec_24khz",
            "quantizer.layers.31.codebook.embed_avg",
            "quantizer.vq.layers.31._codebook.embed_avg",
        ),
        ("encodec_24khz", "decoder.layers.1.lstm.bias_hh_l0", "decoder.model.1.lstm.bias_hh_l0"),
        ("encodec_24khz", "decoder.layers.3.conv.weight", "decoder.model.3.convtr.convtr.weight"),
        ("encodec_24khz", "decoder.layers.12.conv.bias", "decoder.model.12.convtr.convtr.bias"),
        ("encodec_24khz", "decoder.layers.15.conv.weight", "decoder.model.15.conv.conv.weight"),
        ("encodec_48khz", "encoder.layers.0.norm.weight", "encoder.model.0.conv.norm.weight"),
        (
            "encodec_48khz",
            "decoder.layers.4.shortcut.norm.bias",
            "decoder.model.4.shortcut.conv.norm.bias",
        ),
        ("encodec_48khz", "decoder.layers.3.norm.bias", "decoder.model.3.convtr.norm.bias"),
        ("encodec_32khz", "decoder.layers.9.conv.bias", "decoder.model.9.convtr.convtr.bias"),
    ],
)
def test_released_model_is_named_as_published(preset, name, original):
    architecture = EncodecConfig.preset(preset).architecture
    names = {
        rule.torch_key: original_rule.torch_key
        for rule, original_rule in zip(
            encodec_weight_rules(architecture), original_encodec_rules(architecture), strict=True
        )
    }
    assert names[name] == original


@pytest.mark.skipif(peers.missing_encodec() is not None, reason=str(peers.missing_encodec()))
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize("rate", ["24khz", "48khz"])
def test_keys_and_shapes_are_those_of_the_original_package(rate):
    import torch

    package = peers.import_encodec().EncodecModel
    with torch.device("meta"):
        model = getattr(package, f"encodec_model_{rate}")(pretrained=False)
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}

    shapes = {}
    for rule in original_encodec_rules(EncodecConfig.preset(f"encodec_{rate}").architecture):
        if rule.weight_norm:
            shapes[f"{rule.torch_key}_g"] = rule.gain_shape
            shapes[f"{rule.torch_key}_v"] = rule.torch_shape
        else:
            shapes[rule.torch_key] = rule.torch_shape
    assert shapes == expected

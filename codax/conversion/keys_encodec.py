"""The original EnCodec's weight names -> transformers': one table, complete both ways.

Both number the entries of a network alike, and differ in what they wrap a convolution in:

    encoder.model.0.conv.conv.weight              encoder.layers.0.conv.weight
    encoder.model.0.conv.norm.weight              encoder.layers.0.norm.weight
    encoder.model.1.block.1.conv.conv.weight      encoder.layers.1.block.1.conv.weight
    encoder.model.13.lstm.weight_ih_l0            encoder.layers.13.lstm.weight_ih_l0
    decoder.model.3.convtr.convtr.weight          decoder.layers.3.conv.weight
    quantizer.vq.layers.0._codebook.embed         quantizer.layers.0.codebook.embed

audiocraft's checkpoints have the same names. No weight of an original file is left out.

Source: encodec 0.1.1, modules/conv.py, modules/seanet.py and quantization/core_vq.py.
"""

import dataclasses

from codax.configuration.configuration_encodec import EncodecArchitecture
from codax.configuration.conv_geometry import Conv, named_layers
from codax.modeling.weight_table import WeightRule, encodec_weight_rules


def original_encodec_rules(architecture: EncodecArchitecture) -> tuple[WeightRule, ...]:
    """`encodec_weight_rules` with the original's keys in place of transformers'."""
    transposed = {
        ".".join(path)
        for path, layer in named_layers(architecture.decoder, ("decoder",))
        if isinstance(layer, Conv) and layer.transposed
    }
    return tuple(
        dataclasses.replace(rule, torch_key=_original_key(rule.torch_key, transposed))
        for rule in encodec_weight_rules(architecture)
    )


def _original_key(key: str, transposed: set[str]) -> str:
    network, _, rest = key.partition(".layers.")
    if network == "quantizer":
        level, leaf = rest.split(".codebook.")
        return f"quantizer.vq.layers.{level}._codebook.{leaf}"
    *entry, module, leaf = rest.split(".")
    if module in ("conv", "norm"):
        is_transposed = ".".join((network, "layers", *entry, "conv")) in transposed
        wrapper = "convtr" if is_transposed else "conv"
        entry.append(wrapper)
        module = wrapper if module == "conv" else module
    return ".".join((network, "model", *entry, module, leaf))

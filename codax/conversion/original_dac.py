"""Weight files of descript-audio-codec: the configuration and the weights that they hold."""

from typing import Any

from codax.configuration import DacConfig
from codax.errors import CheckpointError
from codax.modeling.torch_layout import params_from_torch

from .keys_dac import original_weight_rules
from .torch_files import as_arrays

# The original's constructor arguments, as its files carry them -> (field of DacConfig, type).
# Source: descript-audio-codec 1.0.0, `DAC.__init__`.
DESCRIPT_ARGUMENTS = {
    "encoder_dim": ("encoder_hidden_size", int),
    "encoder_rates": ("downsampling_ratios", list),
    "latent_dim": ("hidden_size", int),
    "decoder_dim": ("decoder_hidden_size", int),
    "decoder_rates": ("upsampling_ratios", list),
    "n_codebooks": ("n_codebooks", int),
    "codebook_size": ("codebook_size", int),
    "codebook_dim": ("codebook_dim", int),
    "quantizer_dropout": ("quantizer_dropout", float),
    "sample_rate": ("sampling_rate", int),
}


def is_descript(content: Any) -> bool:
    """Whether a torch file's content is that of a DAC checkpoint."""
    match content:
        case {"state_dict": dict(), "metadata": {"kwargs": dict()}}:
            return True
    return False


def load_descript(content: dict, source: str) -> tuple[DacConfig, dict]:
    """The configuration and the Flax tree (float32), weight norm folded. `CheckpointError`."""
    state = content["state_dict"]
    config = config_of_descript(content["metadata"]["kwargs"], len(state), source)
    rules = original_weight_rules(config.architecture)
    return config, params_from_torch(rules, as_arrays(state, source), source)


def config_of_descript(arguments: dict[str, Any], num_weights: int, source: str) -> DacConfig:
    """The original's constructor arguments as a configuration.

    Older files lack `latent_dim`, which has a default. Others that are not in the table are left
    out, as descript's own loader does; a weight that they had added is an error later.
    """
    arguments = {"latent_dim": None, **arguments}
    missing = [name for name in DESCRIPT_ARGUMENTS if name not in arguments]
    if missing:
        raise CheckpointError(f"{source}: its metadata lack {', '.join(missing)}")
    fields = {
        field: _checked(name, arguments[name], kind, source)
        for name, (field, kind) in DESCRIPT_ARGUMENTS.items()
    }
    ratios, upsampling_ratios = fields["downsampling_ratios"], fields.pop("upsampling_ratios")
    if upsampling_ratios != ratios[::-1]:
        raise CheckpointError(
            f"{source}: metadata decoder_rates={upsampling_ratios} must be encoder_rates={ratios} "
            "reversed"
        )
    if len(ratios) + fields["n_codebooks"] > num_weights:
        raise CheckpointError(
            f"{source}: its metadata describe {len(ratios)} encoder blocks and "
            f"{fields['n_codebooks']} codebooks, but there are only {num_weights} weights"
        )
    try:
        return DacConfig(**fields)
    except ValueError as error:
        raise CheckpointError(f"{source}: its metadata are not those of a DAC: {error}") from error


def _checked(name: str, value: Any, kind: type, source: str) -> Any:
    """`value` as `kind`, in every form that the original takes."""
    if name == "latent_dim" and value is None:
        return None
    if kind is list and isinstance(value, list | tuple) and set(map(type, value)) == {int}:
        return list(value)
    if name == "codebook_dim" and isinstance(value, list):  # one width for each codebook
        if set(map(type, value)) == {int} and len(set(value)) == 1:
            return value[0]
        raise CheckpointError(
            f"{source}: metadata codebook_dim lists several widths; all codebooks must have one"
        )
    if kind is float and isinstance(value, int | float):
        return float(value)
    if type(value) is not kind or kind is list:
        expected = "a list of integers" if kind is list else f"of type {kind.__name__}"
        raise CheckpointError(
            f"{source}: metadata {name} must be {expected}, not {type(value).__name__}"
        )
    return value

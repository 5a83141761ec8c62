"""Models from where they are: released originals, torch files, the Hub.

torch is needed to read pickled files and to verify, and imported only then.
"""

from codax.conversion.checkpoints import RELEASED as RELEASED
from codax.conversion.checkpoints import ReleasedCheckpoint as ReleasedCheckpoint
from codax.conversion.convert import convert_checkpoint as convert_checkpoint
from codax.conversion.convert import convert_to_audiocraft as convert_to_audiocraft
from codax.conversion.convert import load_original as load_original
from codax.conversion.discriminators import read_discriminator as read_discriminator
from codax.conversion.download import download_original as download_original
from codax.conversion.encodec_lm import load_encodec_lm as load_encodec_lm
from codax.conversion.encodec_lm import released_encodec_lm as released_encodec_lm
from codax.conversion.encodec_lm import save_encodec_lm as save_encodec_lm
from codax.conversion.encodec_lm_torch import torch_probabilities as torch_probabilities
from codax.conversion.fetch import download_model as download_model
from codax.conversion.resolve import config_of as config_of
from codax.conversion.resolve import resolve_model as resolve_model
from codax.conversion.verify import Agreement as Agreement
from codax.conversion.verify import verify_against_torch as verify_against_torch

__all__ = [
    "RELEASED",
    "Agreement",
    "ReleasedCheckpoint",
    "config_of",
    "convert_checkpoint",
    "convert_to_audiocraft",
    "download_model",
    "download_original",
    "load_encodec_lm",
    "load_original",
    "read_discriminator",
    "released_encodec_lm",
    "resolve_model",
    "save_encodec_lm",
    "torch_probabilities",
    "verify_against_torch",
]

"""Publishing models: cards, the code that they are loaded with, repositories."""

from .card import CardContent, model_card
from .measuring import CLIP_S, Speed, measure_speed, reconstruct, synthetic_clip
from .origins import (
    Origin,
    built_in_origin,
    preset_of,
    released_origin,
    require_preset,
    require_repo_id,
)
from .publishing import (
    publish,
    require_access,
    require_no_files,
    upload_repository,
    write_repository,
)
from .remote_code import remote_code
from .results import read_results

__all__ = [
    "CLIP_S",
    "CardContent",
    "Origin",
    "Speed",
    "built_in_origin",
    "measure_speed",
    "model_card",
    "preset_of",
    "publish",
    "read_results",
    "reconstruct",
    "released_origin",
    "remote_code",
    "require_access",
    "require_no_files",
    "require_preset",
    "require_repo_id",
    "synthetic_clip",
    "upload_repository",
    "write_repository",
]

"""How feature extractors are saved: whole or not at all, with their code or without."""

import os
from typing import Any

from transformers.feature_extraction_utils import FeatureExtractionMixin
from transformers.utils import FEATURE_EXTRACTOR_NAME

from codax.files import atomic_path
from codax.hub_saving import AUTO_MAP, HubSaving, require_pushing


class SavedExtractor(HubSaving, FeatureExtractionMixin):
    """Mixed into transformers' feature extractors, before them."""

    config_file = FEATURE_EXTRACTOR_NAME

    def to_dict(self) -> dict[str, Any]:
        """As transformers', but code is named only where it is saved along."""
        fields = super().to_dict()
        if self._auto_class is None:
            fields.pop(AUTO_MAP, None)
        return fields

    def to_json_file(self, json_file_path: str | os.PathLike) -> None:
        """Write preprocessor_config.json, or nothing."""
        with atomic_path(json_file_path) as path:
            super().to_json_file(path)

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        push_to_hub: bool = False,
        repo_id: str | None = None,
        **push_options: Any,
    ) -> list[str]:
        """Write preprocessor_config.json, and the code that this class came as, if it did.

        `push_to_hub=True` does what the method of this name does (`repo_id`, the folder's name by
        default, and its other arguments).
        """
        require_pushing(push_to_hub, push_options)
        saved = super().save_pretrained(save_directory)
        if push_to_hub:
            folder = os.path.basename(os.path.normpath(save_directory))
            self.push_to_hub(repo_id or folder, **push_options)
        return saved

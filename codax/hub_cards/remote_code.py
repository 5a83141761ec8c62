"""codax's own modules as flat files, which transformers loads where codax is not installed.

transformers copies the files that a repository's `auto_map` names, and finds those that they need
by lines that begin with `from .name import`. It knows no packages inside packages, and of a local
folder it copies only what the named file itself imports. So the modules of three rooms become files
side by side, whose imports of one another are of that form, and each named file imports all that it
needs, directly or not. Source: transformers 4.57, dynamic_module_utils.py.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import codax

from .origins import OWN_HOLDER, license_text

PACKAGE = "codax"
ROOMS = ("configuration", "feature_extraction", "modeling")

# By model type: the file and the class for each of transformers' Auto classes.
ENTRIES = {
    "dac": {
        "AutoConfig": "configuration_dac.DacConfig",
        "FlaxAutoModel": "modeling_flax_dac.FlaxDacModel",
        "AutoFeatureExtractor": "feature_extraction_dac.DacFeatureExtractor",
    },
    "encodec": {
        "AutoConfig": "configuration_encodec.EncodecConfig",
        "FlaxAutoModel": "modeling_flax_encodec.FlaxEncodecModel",
        "AutoFeatureExtractor": "feature_extraction_encodec.EncodecFeatureExtractor",
    },
}

# What transformers takes for an import of a file beside, wherever in a file it stands.
_SEEN_BY_TRANSFORMERS = re.compile(r"^\s*from\s+\.(\S+)\s+import", re.MULTILINE)


def auto_map(model_type: str, *auto_classes: str) -> dict[str, str]:
    """What a configuration says of the code beside it, for some of the Auto classes."""
    return {name: ENTRIES[model_type][name] for name in auto_classes}


@cache
def remote_code(model_type: str) -> Mapping[str, str]:
    """File names and texts that load and run a model of this type, "dac" or "encodec".

    They need transformers with Flax, jax, flax, and soxr where audio is to be resampled.
    """
    entries = [reference.split(".")[0] for reference in ENTRIES[model_type].values()]
    texts: dict[str, str] = {}
    needed = {name: _collect(name, texts) for name in entries}
    files = {}
    for name, text in texts.items():
        others = sorted(needed[name] - {name}) if name in needed else None
        files[f"{name}.py"] = _with_header(text, others)
    return MappingProxyType(files)


def _collect(name: str, texts: dict[str, str]) -> set[str]:
    """Add the module and all that it needs to `texts`; -> their names, with its own."""
    found, left = set(), [name]
    while left:
        module = left.pop()
        if module in found:
            continue
        found.add(module)
        text, imported = _flat(_modules()[module])
        texts[module] = text
        left.extend(imported)
    return found


@cache
def _modules() -> dict[str, Path]:
    """All modules that may be shipped: base name -> file. Base names tell them apart."""
    root = Path(str(resources.files(PACKAGE)))
    paths = [*root.glob("*.py"), *(path for room in ROOMS for path in (root / room).glob("*.py"))]
    paths = [path for path in paths if not path.stem.startswith("__")]
    modules = {path.stem: path for path in paths}
    if len(modules) < len(paths):
        doubled = sorted({path.stem for path in paths if modules[path.stem] != path})
        raise RuntimeError(f"two modules have the same base name: {', '.join(doubled)}")
    return modules


def _flat(path: Path) -> tuple[str, set[str]]:
    """The text of a module, with imports of codax as those of files beside it, and their names."""
    text = path.read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Import | ast.ImportFrom) or not _is_own(node):
            continue
        name = _imported_module(node, path)
        imported.add(name)
        row = node.lineno - 1
        lines[row] = re.sub(r"from\s+\S+\s+import", f"from .{name} import", lines[row], count=1)
    flat = "".join(lines)
    if set(_SEEN_BY_TRANSFORMERS.findall(flat)) != imported:
        raise RuntimeError(f"{path}: a line of its text looks like an import")
    return flat, imported


def _is_own(node: Any) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] == PACKAGE for alias in node.names)
    return bool(node.level) or (node.module or "").split(".")[0] == PACKAGE


def _imported_module(node: Any, path: Path) -> str:
    """The base name of the module of `from MODULE import ...`; other forms cannot be shipped."""
    name = (getattr(node, "module", None) or "").split(".")[-1]
    if name not in _modules() or getattr(node, "level", 0) > 1:
        raise RuntimeError(f"{path}:{node.lineno}: imports no module that is shipped by its name")
    return name


def _with_header(text: str, needed: list[str] | None) -> str:
    """Put behind the docstring of a module where it comes from.

    needed: in a file that transformers is told of: the others, which it is to import as well; such
        files also hold the licence, since transformers copies them wherever the model goes
    """
    docstring, *_ = ast.parse(text).body
    lines = text.splitlines(keepends=True)
    head = [f"From codax {codax.__version__}. Copyright (c) {OWN_HOLDER}. MIT licence."]
    if needed is not None:
        head += ["", *license_text("MIT", OWN_HOLDER).splitlines()]
    comment = "".join(f"# {line}".rstrip() + "\n" for line in head)
    imports = [f"from .{name} import __name__ as _{name}\n" for name in needed or ()]
    if imports:
        imports.insert(0, "\n# All that this file needs: of a local folder, no more is copied.\n")
    end = docstring.end_lineno
    return "".join([*lines[:end], "\n", comment, *imports, *lines[end:]])

"""The flat files: what transformers' loader demands of them, and that they are all of codax."""

import ast
import sys
from pathlib import Path

import pytest
from transformers.dynamic_module_utils import get_imports, get_relative_imports

import codax
from codax.hub_cards import remote_code
from codax.hub_cards.remote_code import ENTRIES

ROOT = Path(codax.__file__).parent
MODEL_TYPES = sorted(ENTRIES)
# What is there with transformers, jax and flax: they require it.
ALONGSIDE = {
    "filelock",
    "flax",
    "huggingface_hub",
    "jax",
    "msgpack",
    "numpy",
    "requests",
    "safetensors",
    "scipy",
    "transformers",
}


@pytest.fixture(params=MODEL_TYPES)
def model_type(request):
    return request.param


@pytest.fixture
def files(model_type, tmp_path):
    """The files, written side by side."""
    texts = remote_code(model_type)
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return {path.stem: path for path in tmp_path.iterdir()}


def entries(model_type):
    return [reference.split(".")[0] for reference in ENTRIES[model_type].values()]


def needed_by(name, files):
    found, left = set(), [name]
    while left:
        for other in get_relative_imports(files[left.pop()]):
            if other not in found:
                found.add(other)
                left.append(other)
    return found


def test_every_import_is_of_a_file_beside_or_of_what_is_installed_anyway(files):
    for path in files.values():
        assert set(get_relative_imports(path)) <= files.keys(), path.name
        others = {name for name in get_imports(path) if name not in sys.stdlib_module_names}
        assert others <= ALONGSIDE, path.name


def test_files_that_transformers_is_told_of_import_all_that_they_need(files, model_type):
    for name in entries(model_type):
        assert set(get_relative_imports(files[name])) == needed_by(name, files), name


def test_no_file_is_there_that_is_not_needed(files, model_type):
    named = set(entries(model_type))
    assert named.union(*(needed_by(name, files) for name in named)) == files.keys()


def test_classes_are_where_the_table_says(files, model_type):
    for reference in ENTRIES[model_type].values():
        module, name = reference.split(".")
        classes = [
            node.name
            for node in ast.parse(files[module].read_text()).body
            if isinstance(node, ast.ClassDef)
        ]
        assert name in classes


def test_apart_from_imports_the_code_is_codax_own(files):
    originals = {path.stem: path for path in ROOT.rglob("*.py")}
    for name, path in files.items():
        assert statements(path) == statements(originals[name]), name


def statements(path):
    """A module's statements, without imports and docstring."""
    _, *body = ast.parse(path.read_text(encoding="utf-8")).body
    return [ast.unparse(node) for node in body if not isinstance(node, ast.Import | ast.ImportFrom)]


def test_the_licence_stands_in_the_files_that_are_copied_everywhere(files, model_type):
    notice = (ROOT.parent / "LICENSE").read_text(encoding="utf-8").splitlines()
    for name in entries(model_type):
        lines = [line.removeprefix("#").strip() for line in files[name].read_text().splitlines()]
        start = lines.index(notice[0])
        assert lines[start : start + len(notice)] == [line.strip() for line in notice]


def test_base_names_are_unique_across_what_is_shipped():
    names = [
        path.stem
        for room in ("configuration", "feature_extraction", "modeling")
        for path in (ROOT / room).glob("*.py")
        if path.stem != "__init__"
    ]
    assert len(names) == len(set(names))

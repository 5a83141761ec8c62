"""The `codax` command, run in this process."""

import pytest

from codax.cli.main import main

from .running import Finished


@pytest.fixture
def codax(capsys, tmp_path, monkeypatch):
    """`codax("info", "song.dac")`, in an empty folder that is the current one -> `Finished`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as left:  # as argparse does
            status = left.code
        return Finished(status, *capsys.readouterr())

    return run


@pytest.fixture
def coding(codax, tiny_folder):
    """As `codax`, with the tiny model for `--model`."""

    def run(command, *arguments):
        return codax(command, "--model", tiny_folder, *arguments)

    return run

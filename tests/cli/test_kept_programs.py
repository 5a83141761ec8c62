"""Commands find what was compiled before."""

import os
from pathlib import Path

import pytest

from codax.cli import kept_programs

from .running import finish, start, write_audio

THERE = "import os; print(os.environ.get('JAX_COMPILATION_CACHE_DIR'))"
SAYS_WHERE = f"from codax.cli.kept_programs import keep_programs as k; k(); {THERE}"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Where programs are to be kept, of a user who has told JAX nothing."""
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home" / "codax" / "programs"


def test_a_second_command_compiles_nothing_anew(home, tiny_folder):
    write_audio("noise.wav")
    command = ("encode", "noise.wav", "--model", tiny_folder, "--overwrite")
    finish(start(*command)).assert_succeeded()
    kept = {path.name for path in home.rglob("*-cache")}
    used = {path.name: path.read_bytes() for path in home.rglob("*-atime")}
    assert len(kept) == len(used) > 0
    if os.name == "posix":
        assert [path.stat().st_mode & 0o777 for path in home.iterdir()] == [0o700]
    finish(start(*command)).assert_succeeded()
    assert {path.name for path in home.rglob("*-cache")} == kept
    for path in home.rglob("*-atime"):  # each was read
        assert path.read_bytes() != used[path.name], path.name


def test_what_was_written_only_half_is_written_anew(home, tiny_folder):
    write_audio("noise.wav")
    command = ("encode", "noise.wav", "--model", tiny_folder, "--overwrite")
    finish(start(*command)).assert_succeeded()
    whole = {path: path.read_bytes() for path in home.rglob("*-cache")}
    for path, program in whole.items():
        path.with_name(path.name.removesuffix("cache") + "atime").unlink()
        path.write_bytes(program[:100])
        os.utime(path, (0, 0))
    finish(start(*command)).assert_succeeded()
    for path in whole:
        assert len(path.read_bytes()) > 100


def test_damaged_programs_are_compiled_without_a_word(home, tiny_folder):
    write_audio("noise.wav")
    command = ("encode", "noise.wav", "--model", tiny_folder, "--overwrite")
    finish(start(*command)).assert_succeeded()
    for path in home.rglob("*-cache"):
        path.write_bytes(path.read_bytes()[:100])
    finish(start(*command)).assert_succeeded()


def test_what_the_environment_says_comes_first(home, tmp_path):
    elsewhere = str(tmp_path / "elsewhere")
    finished = finish(start(script=SAYS_WHERE, JAX_COMPILATION_CACHE_DIR=elsewhere))
    assert finished.out.strip() == elsewhere
    assert not home.exists()


def test_where_nothing_can_be_kept_commands_run_all_the_same(home, tmp_path):
    root = tmp_path / "file"
    root.write_text("")
    finished = finish(start(script=SAYS_WHERE, XDG_CACHE_HOME=str(root)))
    assert (finished.status, finished.out.strip(), finished.err) == (0, "None", "")


@pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")
def test_a_folder_that_others_may_write_into_is_not_trusted(home):
    kept = home / kept_programs._cpu_name()
    kept.mkdir(parents=True)
    kept.chmod(0o777)
    assert finish(start(script=SAYS_WHERE)).out.strip() == "None"


def test_a_limit_that_the_environment_tells_stays(home):
    script = (
        "from codax.cli.kept_programs import keep_programs; keep_programs(); import jax; "
        "print(jax.config.jax_compilation_cache_max_size, jax.config.jax_compilation_cache_dir)"
    )
    finished = finish(start(script=script, JAX_COMPILATION_CACHE_MAX_SIZE="12345"))
    most, folder = finished.out.split()
    assert most == "12345"
    assert folder.startswith(str(home))


def test_a_cpu_with_other_instructions_has_programs_of_its_own(tmp_path, monkeypatch):
    names = set()
    for flags in ("sse2 avx", "sse2 avx avx512f", None):
        facts = tmp_path / "cpuinfo"
        facts.unlink(missing_ok=True)
        if flags:
            facts.write_text(f"processor : 0\nflags\t: {flags}\n")
        monkeypatch.setattr(kept_programs, "CPU_FACTS", facts)
        names.add(kept_programs._cpu_name())
    assert len(names) == 3
    assert all(Path(name).name == name for name in names)

"""Where compiled kernels are kept: with the user, never in the package, and never at any price."""

import os
import pkgutil
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching

import kmdist
from kmdist import KMeans, kernel_cache
from kmdist.estimators.model import pool_for
from kmdist.job.progress import Event, Message, compile_kernels
from tests.support.folders import ROOT
from tests.support.permissions import as_user

PACKAGE = ROOT / "kmdist"

COMPILE = """
import numpy as np
from kmdist.engine.kernels.frame import moments
print(moments(np.ones((4, 3), np.float32), None).mean.tolist())
"""


def compile_a_kernel(installed: Path = ROOT, **environment: str) -> str:
    """Compile and call one kernel in a process of its own; what it says beside the result."""
    done = subprocess.run(
        as_user([sys.executable, "-c", COMPILE]),
        cwd=installed,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[1.0, 1.0, 1.0]\n"), done.stderr
    return done.stderr


def kept(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.nbi"))


def test_every_kernel_is_kept_outside_the_package() -> None:
    for module in pkgutil.walk_packages(kmdist.__path__, "kmdist."):
        if not module.name.endswith("__main__"):
            __import__(module.name)
    dispatchers = {
        value
        for name, module in list(sys.modules.items())
        if name.startswith("kmdist.")
        for value in vars(module).values()
        if isinstance(value, numba.core.registry.CPUDispatcher)
    }
    cached = [d for d in dispatchers if isinstance(d._cache, numba.core.caching.FunctionCache)]
    assert len(cached) > 50
    for dispatcher in cached:
        assert not Path(dispatcher._cache.cache_path).is_relative_to(PACKAGE), dispatcher


def test_kernels_of_others_are_kept_where_numba_keeps_them() -> None:
    @numba.njit(cache=True)
    def other(x: int) -> int:
        return x + 1

    assert Path(other._cache.cache_path).is_relative_to(Path(__file__).parent)


@pytest.mark.slow
def test_users_of_a_read_only_installation_keep_their_own(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "kmdist", ignore=shutil.ignore_patterns("__pycache__"))
    folders = [tmp_path / "kmdist", *(p for p in tmp_path.rglob("kmdist/**") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    for user in ("one", "two"):
        home = tmp_path / user
        home.mkdir()
        assert compile_a_kernel(tmp_path, HOME=str(home)) == ""
        assert kept(home / ".cache/kmdist")
    assert not list(tmp_path.rglob("kmdist/**/__pycache__"))
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.slow
def test_the_same_source_elsewhere_is_not_compiled_again(tmp_path: Path) -> None:
    caches = shutil.ignore_patterns("__pycache__")
    for place in ("one", "two"):
        shutil.copytree(PACKAGE, tmp_path / place / "kmdist", ignore=caches)
    home = tmp_path / "home"
    home.mkdir()
    compile_a_kernel(tmp_path / "one", HOME=str(home))
    before = {path: path.stat().st_mtime_ns for path in kept(home)}
    compile_a_kernel(tmp_path / "two", HOME=str(home))
    assert {path: path.stat().st_mtime_ns for path in kept(home)} == before


def newly_compiled(x: int) -> int:
    return int(numba.njit(lambda x: x + 1)(x))


def test_people_are_told_when_kernels_are_compiled_and_only_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X = np.arange(6.0).reshape(3, 2)
    KMeans(1).fit(X)
    capsys.readouterr()
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    KMeans(1).fit(X)
    assert capsys.readouterr().err == ""
    with pool_for(X):
        newly_compiled(1)
        newly_compiled(2)
    assert capsys.readouterr().err.count("kmdist: compiling kernels") == 1
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False, raising=False)
    with pool_for(X):
        newly_compiled(3)
    assert capsys.readouterr().err == ""


def test_who_watches_a_job_is_told_once_when_its_kernels_are_compiled() -> None:
    told: list[Event | Message] = []
    compile_kernels(lambda: (newly_compiled(1), newly_compiled(2)), told.append)
    compile_kernels(lambda: None, told.append)
    assert [str(each) for each in told] == [
        str(Message("compiling kernels, once per installation: a few seconds"))
    ]


@pytest.mark.slow
def test_numba_cache_dir_overrules(tmp_path: Path) -> None:
    compile_a_kernel(HOME=str(tmp_path / "home"), NUMBA_CACHE_DIR=str(tmp_path / "mine"))
    assert kept(tmp_path / "mine")
    assert not kept(tmp_path / "home")


@pytest.mark.slow
def test_without_a_writable_home_they_are_kept_with_the_temporary_files(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file, in which not even root can make a folder")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    assert compile_a_kernel(HOME=str(tmp_path / "home"), TMPDIR=str(temporary)) == ""
    (folder,) = temporary.iterdir()
    assert folder.stat().st_mode & 0o077 == 0
    assert kept(folder)


@pytest.mark.slow
@pytest.mark.parametrize("obstacle", ["file", "open to others", "link"])
def test_a_temporary_folder_of_somebody_else_is_not_read(tmp_path: Path, obstacle: str) -> None:
    (tmp_path / "home").touch()
    temporary, elsewhere = tmp_path / "tmp", tmp_path / "elsewhere"
    for folder in (temporary, elsewhere):
        folder.mkdir()
    theirs = temporary / f"kmdist-{os.getuid()}"
    if obstacle == "file":
        theirs.touch()
    elif obstacle == "link":
        elsewhere.chmod(0o700)
        theirs.symlink_to(elsewhere)
    else:
        theirs.mkdir()
        theirs.chmod(0o777)
    before = kept(PACKAGE)
    assert compile_a_kernel(HOME=str(tmp_path / "home"), TMPDIR=str(temporary)) == ""
    assert not kept(temporary)
    assert not kept(elsewhere)
    assert kept(PACKAGE) == before


@pytest.mark.slow
def test_what_cannot_be_read_or_written_is_compiled(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    compile_a_kernel(HOME=str(home))
    for path in (home / ".cache/kmdist").rglob("*.nb?"):
        path.write_bytes(path.read_bytes()[:9])
    assert compile_a_kernel(HOME=str(home)) == ""
    (version,) = (home / ".cache/kmdist").iterdir()
    for folder in version.iterdir():
        shutil.rmtree(folder)
        folder.touch()
    assert compile_a_kernel(HOME=str(home)) == ""


def test_without_any_folder_each_process_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    kernel_cache.cache_folder.cache_clear()
    try:
        assert kernel_cache.cache_folder() is None
        cache = kernel_cache._cache_of(kernel_cache._user_folder)
        assert isinstance(cache, numba.core.caching.NullCache)
    finally:
        kernel_cache.cache_folder.cache_clear()


def test_the_stamp_is_that_of_all_that_is_compiled_into_a_kernel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_cache, "_PACKAGE", tmp_path)
    sources = {
        "caller.py": "from kmdist.middle import f\n",
        "middle.py": "from kmdist.parts import (\n    g,\n)\nimport kmdist.caller\n",
        "parts/__init__.py": "from kmdist.parts.deep import g\n",
        "parts/deep.py": "def g(): return 1\n",
        "apart.py": "",
    }
    for name, source in sources.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(source)

    def stamp() -> str:
        kernel_cache._source.cache_clear()
        kernel_cache.source_stamp.cache_clear()
        return kernel_cache.source_stamp(tmp_path / "caller.py")

    first = stamp()
    assert stamp() == first
    (tmp_path / "apart.py").write_text("other = 1\n")
    assert stamp() == first
    for name in ("caller.py", "middle.py", "parts/deep.py"):
        before = stamp()
        (tmp_path / name).write_text(sources[name] + "# edited\n")
        assert stamp() != before
    kernel_cache._source.cache_clear()
    kernel_cache.source_stamp.cache_clear()


def test_signatures_compiled_at_once_keep_their_own_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process has read the index before this one wrote it, and writes its code before."""
    this, other = (kernel_cache.KernelFiles(str(tmp_path), "f", "stamp") for _ in range(2))
    save, read = caching.IndexDataCacheFile._save_data, caching.IndexDataCacheFile._load_index

    def overtaken(file: caching.IndexDataCacheFile, *what: object) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(caching.IndexDataCacheFile, "_save_data", save)
            patched.setattr(caching.IndexDataCacheFile, "_load_index", lambda _: {})
            other.save(("uint8",), "code of uint8")
        save(file, *what)

    monkeypatch.setattr(caching.IndexDataCacheFile, "_save_data", overtaken)
    this.save(("float32",), "code of float32")
    assert caching.IndexDataCacheFile._load_index is read
    assert this.load(("float32",)) == "code of float32"
    assert this.load(("uint8",)) == "code of uint8"

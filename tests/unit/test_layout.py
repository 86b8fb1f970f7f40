"""The tree stays importable: `operator/` is a plain folder, so that Python's own `operator` wins everywhere."""

from __future__ import annotations

import operator
import subprocess
import sys
import sysconfig
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONTAINERS = ("operator", "sidecar", "router", "crds")


def test_containers_and_tests_are_no_packages() -> None:
    assert [name for name in CONTAINERS if (ROOT / name / "__init__.py").exists()] == []
    assert list((ROOT / "tests").rglob("__init__.py")) == []


def test_no_folder_hides_a_module_of_the_standard_library() -> None:
    shadowing = [path for path in ROOT.glob("*/__init__.py") if path.parent.name in sys.stdlib_module_names]
    assert shadowing == []


@pytest.mark.parametrize("arguments", [["-S", "-c"], ["-c"]])
def test_the_standard_librarys_operator_wins_in_the_root(arguments: list[str]) -> None:
    code = "import operator, collections; print(operator.__file__)"
    done = subprocess.run(
        [sys.executable, *arguments, code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert Path(done.stdout.strip()).parent == Path(sysconfig.get_path("stdlib"))


def test_it_wins_in_this_process() -> None:
    assert Path(operator.__file__).parent == Path(sysconfig.get_path("stdlib"))


def test_names_of_test_files_are_unique() -> None:
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_each_container_holds_one_typed_package() -> None:
    for container in CONTAINERS:
        packages = [path.parent.name for path in (ROOT / container).glob("*/__init__.py")]
        assert packages == [f"foresail_{'api' if container == 'crds' else container}"]
        assert (ROOT / container / packages[0] / "py.typed").exists()


def test_every_module_says_what_it_is_and_stays_readable() -> None:
    for container in CONTAINERS:
        for path in (ROOT / container).rglob("*.py"):
            text = path.read_text()
            assert text.startswith('"""'), f"{path} has no docstring"
            assert text.count("\n") <= 500, f"{path} is too long; split it by concern"

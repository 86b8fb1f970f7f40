"""The distribution as it is installed: its commands, its extras, its packages."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hack import cli_reference

from foresail_api.console import ENTRY_POINT_GROUP, Command, main

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ENTRIES = sorted(importlib.metadata.entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name)
NEEDED_LATER = (
    "aiohttp", "genai_prices", "kopf", "kubernetes", "numpy", "onnxruntime", "pyarrow", "safetensors", "tokenizers", "torch", "uvloop",
)  # fmt: skip


def run_without(modules: tuple[str, ...], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `foresail ARGUMENTS` where these modules are not installed."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({modules!r}));"
        f"from foresail_api.console import main; sys.exit(main({list(arguments)!r}))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_the_installed_commands_are_those_of_the_project() -> None:
    declared = PROJECT["project"]["entry-points"][ENTRY_POINT_GROUP]
    assert {entry.name: entry.value for entry in ENTRIES} == declared, "install again: uv pip install --no-deps -e ."


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_command_loads_and_says_what_it_does(entry: importlib.metadata.EntryPoint) -> None:
    command = entry.load()
    assert isinstance(command, Command)
    assert command.help
    assert not command.help.endswith(".")
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(entry.extras) <= set(extras)


def test_help_needs_no_extra() -> None:
    done = run_without(NEEDED_LATER, "compile", "--help")
    assert done.returncode == 0, done.stderr
    assert "--target" in done.stdout


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("aiohttp", ("serve", "-f", "examples"), "sidecar"),
        ("uvloop", ("serve", "-f", "examples"), "sidecar"),
        ("genai_prices", ("init", "unused"), "sidecar"),
        ("kopf", ("operator", "--sidecar-image", "sidecar:1"), "operator"),
        ("numpy", ("evaluate", "artifact", "data"), "train"),
    ],
)
def test_a_missing_extra_is_one_line_with_the_remedy(missing: str, arguments: tuple[str, ...], extra: str) -> None:
    done = run_without((missing,), *arguments)
    assert done.returncode == 2
    assert done.stderr == (
        f"foresail {arguments[0]}: needs the Python package {missing!r}, which is not installed; "
        f"install the extra `{extra}` of foresail, in a clone with: pip install '.[{extra}]'\n"
    )


def test_the_command_line_reference_is_what_the_commands_say() -> None:
    assert cli_reference.TARGET.read_text() == cli_reference.render(), "run: python hack/cli_reference.py"


def test_the_wheel_holds_every_package_with_its_types() -> None:
    packages = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(packages) == sorted(str(path.parent.relative_to(ROOT)) for path in ROOT.glob("*/foresail_*/py.typed"))
    assert {package.split("/")[0] for package in packages} == set(PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"])


def test_extras_keep_each_image_small() -> None:
    extras = PROJECT["project"]["optional-dependencies"]

    def names(extra: str) -> set[str]:
        found = set()
        for requirement in extras[extra]:
            name, _, rest = requirement.partition("[")
            if name == "foresail":
                for nested in rest.partition("]")[0].split(","):
                    found |= names(nested)
            else:
                found.add(requirement.split(">")[0].split("[")[0])
        return found

    assert not {"torch", "transformers", "aiohttp", "numpy", "onnxruntime"} & names("operator")
    assert not {"torch", "transformers", "kopf", "kubernetes", "pyarrow"} & names("sidecar")
    assert {"torch", "kopf", "aiohttp", "pyarrow"} <= names("all")


def test_the_version_is_the_distributions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"foresail {PROJECT['project']['version']}\n"


def test_an_unknown_command_ends_with_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["unknown"])
    assert ended.value.code == 2
    assert "invalid choice: 'unknown'" in capsys.readouterr().err

"""Writes the chart's templates of the CustomResourceDefinitions from `crds/*.yaml`, which Helm cannot read by itself.

As templates they are upgraded with the chart, unlike those of a chart's `crds/` folder. It must not know any field.
"""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "crds"
TARGET = ROOT / "charts" / "foresail" / "templates" / "crds"

_KEEP = """  {{- if .Values.crds.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
"""


def render(definition: str) -> str:
    """Return the template of one definition's YAML text; raise ValueError where that would not survive Helm."""
    if "{{" in definition:
        raise ValueError("a definition holds `{{`, which Helm would take for an expression")
    comment, body = definition.split("\n", 1)
    before, after = body.split("metadata:\n", 1)
    return (
        f"{{{{- if .Values.crds.install }}}}\n{comment}\n{before}metadata:\n{_KEEP}{after.rstrip()}\n{{{{- end }}}}\n"
    )


def templates() -> dict[Path, str]:
    """Return the text of each template by its path."""
    return {TARGET / file.name: render(file.read_text()) for file in sorted(SOURCE.glob("*.yaml"))}


if __name__ == "__main__":
    TARGET.mkdir(parents=True, exist_ok=True)
    for path, text in templates().items():
        path.write_text(text)

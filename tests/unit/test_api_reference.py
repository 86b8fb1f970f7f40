from __future__ import annotations

from hack import api_reference


def test_the_api_reference_is_what_the_crds_say() -> None:
    assert api_reference.TARGET.read_text() == api_reference.render(), "run: python hack/api_reference.py"

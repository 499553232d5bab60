"""Payloads load into the vendors' own models. Runs where those are installed (`vendors.txt`)."""

import pytest

pytest.importorskip("keywordsai_sdk", reason="the vendors' models are not installed here")

from vendors import MODELS, payloads  # noqa: E402


@pytest.mark.parametrize("flavour", MODELS)
def test_payloads_load_into_the_vendors_models(flavour):
    found = payloads(flavour)
    assert len(found) >= 30
    for title, body in found:
        try:
            MODELS[flavour](body)
        except Exception as error:
            raise AssertionError(f"{flavour}, {title}: {error}") from error

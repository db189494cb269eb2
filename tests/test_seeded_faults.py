"""The faults that `make test-seeded-faults` makes can still be made."""

import pytest

from seeded_faults import FAULTS, ROOT


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_seeded_fault_changes_is_still_there(name):
    fault = FAULTS[name]
    assert fault.text() != (ROOT / fault.file).read_text("utf-8")
    assert (ROOT / "tests" / f"{fault.tests}.py").exists()

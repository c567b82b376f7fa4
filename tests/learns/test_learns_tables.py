"""Tables reach their gates. Evaluations are exact: no noise."""

import pytest
from gate_table import TABLES

pytestmark = pytest.mark.learns


@pytest.mark.parametrize("gate", TABLES, ids=str)
def test_a_table_reaches_its_gate(gate, trained):
    assert not gate.misses(gate.measure(trained(*gate.keys).folder))

"""Deprecated names still work and say what to use."""

import pytest

import deconvseg.planning
from deconvseg import system


@pytest.mark.parametrize("name", deconvseg.planning._NOW_IN_SYSTEM)
def test_what_planning_gave_of_the_machine_is_told_to_be_in_system(name: str) -> None:
    with pytest.warns(
        DeprecationWarning, match=rf"deconvseg\.planning\.{name} is deprecated: use deconvseg\.system\.{name}"
    ):
        assert getattr(deconvseg.planning, name) is getattr(system, name)


def test_other_names_are_missing_as_they_were() -> None:
    with pytest.raises(AttributeError, match="module 'deconvseg.planning' has no attribute 'available_disk'"):
        _ = deconvseg.planning.available_disk

"""Generated data that several tests read."""

import pytest

from deconvseg.data import list_demos, make_demo_dataset


@pytest.fixture(scope="session")
def generated_trees(tmp_path_factory):
    """Return the folders of five cases under the names of each published dataset; no test changes them."""
    folder = tmp_path_factory.mktemp("trees")
    return {name: make_demo_dataset(folder / name, like=name, cases=5) for name in list_demos()}

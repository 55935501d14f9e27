"""The memory that is left within control groups of both versions."""

from pathlib import Path

from deconvseg.data.free_memory import control_group_room

GIB = 2**30


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def test_groups_of_version_2_are_heard_up_to_the_root(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "self": "0::/jobs/one\n",
            "groups/jobs/memory.max": f"{8 * GIB}\n",
            "groups/jobs/memory.current": f"{5 * GIB}\n",
            "groups/jobs/memory.stat": f"anon 1\nactive_file {GIB}\ninactive_file {GIB}\n",
            "groups/jobs/one/memory.max": "max\n",
            "groups/jobs/one/memory.current": "0\n",
            "groups/memory.max": f"{16 * GIB}\n",
            "groups/memory.current": f"{20 * GIB}\n",
        },
    )
    rooms = list(control_group_room(tmp_path / "groups", tmp_path / "self"))
    assert rooms == [5 * GIB, 0]


def test_groups_of_version_1_and_of_a_container_that_does_not_see_its_path(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "self": "5:cpu:/docker/abc\n4:memory,hugetlb:/docker/abc\n",
            "groups/memory/memory.limit_in_bytes": f"{4 * GIB}\n",
            "groups/memory/memory.usage_in_bytes": f"{3 * GIB}\n",
            "groups/memory/memory.stat": f"total_active_file 0\ntotal_inactive_file {GIB}\n",
        },
    )
    assert list(control_group_room(tmp_path / "groups", tmp_path / "self")) == [2 * GIB]


def test_systems_without_groups_have_no_limit(tmp_path: Path) -> None:
    assert list(control_group_room(tmp_path, tmp_path / "self")) == []

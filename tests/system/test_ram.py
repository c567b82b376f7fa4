"""How much memory is free."""

import pytest

from rltrain.errors import DiskError
from rltrain.system import ram


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(ram, "_CGROUP", tmp_path)
    without = ram.free_bytes()
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 500000\n")
    assert ram.free_bytes() == 2_500_000 < without
    (tmp_path / "memory.max").write_text("max\n")
    assert ram.free_bytes() > 2_500_000


def test_shared_memory_that_cannot_be_written_is_a_disk_error(monkeypatch, tmp_path):
    """Bug: "a bug in rltrain" for A3C where /dev/shm is read-only, as in some sandboxes."""
    monkeypatch.setattr(ram, "_SHARED_MEMORY", tmp_path)
    ram.require_shared(1, "the workers need", "")
    monkeypatch.setattr(ram.os, "access", lambda place, mode: False)
    with pytest.raises(DiskError, match="the workers need shared memory, which cannot be written"):
        ram.require_shared(1, "the workers need", "")

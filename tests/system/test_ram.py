"""How much memory is free."""

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

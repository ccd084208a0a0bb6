"""Run folders: what a run that fails leaves, its lock, and what counts as empty."""

import pytest
from filelock import FileLock

from drfpn.data import ShapesDataset
from drfpn.training import trainer
from drfpn.training.locks import LOCK, lock_folder
from drfpn.training.run_folder import check_empty, new_run_folder, newest_run_folder
from drfpn.training.trainer import fit
from drfpn.utils.errors import UserError


@pytest.fixture
def failing_start(monkeypatch, tiny_config):
    """Start a run that writes its settings and then fails, before its first saved state."""

    def build(card, train_set, out, *args, **options):
        (out / "config.yaml").write_text(card.config.to_yaml())
        (out / "tensorboard").mkdir()
        raise UserError("weights.pth does not fit.")

    monkeypatch.setattr(trainer, "build_run", build)

    def start(out) -> None:
        with pytest.raises(UserError, match="does not fit"):
            fit(tiny_config(), ShapesDataset("train", 2), ShapesDataset("val", 2), out)

    return start


def test_a_failed_start_leaves_an_empty_folder_empty(tmp_path, failing_start) -> None:
    failing_start(tmp_path)
    assert list(tmp_path.iterdir()) == []
    failing_start(tmp_path)


def test_a_failed_start_leaves_no_folder_that_it_created(tmp_path, failing_start) -> None:
    (tmp_path / "runs").mkdir()
    failing_start(tmp_path / "runs/a/b")
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_failed_start_leaves_the_files_of_others(tmp_path, failing_start) -> None:
    (tmp_path / "notes.txt").touch()
    failing_start(tmp_path)
    assert (tmp_path / "notes.txt").exists()


def test_a_lock_that_a_killed_process_left_is_no_content(tmp_path) -> None:
    (tmp_path / LOCK).touch()
    check_empty(tmp_path)
    (tmp_path / "config.yaml").touch()
    with pytest.raises(UserError, match="is not empty"):
        check_empty(tmp_path)


def test_a_folder_that_another_process_has_locked_keeps_its_files(tmp_path) -> None:
    with FileLock(tmp_path / LOCK), pytest.raises(UserError, match="Another process"), lock_folder(tmp_path, timeout=0):
        pass
    assert (tmp_path / LOCK).exists()


@pytest.mark.parametrize("data", ["set [a-z] #1 100%", "data*", "{x}"])
def test_the_newest_run_is_found_by_the_literal_name_of_its_data(data, tmp_path, tiny_config, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config().model_copy(update={"data": data})
    folder = new_run_folder(config)
    for name in (folder.name, f"{folder.name}-1", "faster_rcnn_lite0_drfpn-set a #1 100%-1"):
        (folder.with_name(name)).mkdir(parents=True)
        (folder.with_name(name) / "state.pt").touch()
    assert newest_run_folder(config) == folder

import pytest
import yaml

from drfpn.training.config import RunConfig, check_config
from drfpn.training.resolve import read_config, resolve
from drfpn.utils.errors import UsageError, UserError


def test_the_learning_rate_follows_the_linear_rule() -> None:
    assert resolve("faster_rcnn_r50_drfpn", "shapes", overrides=["batch_size=24"]).lr == pytest.approx(0.03)


def test_the_papers_schedules() -> None:
    once = resolve("faster_rcnn_r50_fpn", "shapes", schedule="1x")
    twice = resolve("faster_rcnn_r50_fpn", "shapes", schedule="2x")
    assert (once.epochs, once.milestones) == (12, [8, 11])
    assert (twice.epochs, twice.milestones) == (24, [16, 22])


def test_milestones_move_with_the_number_of_epochs() -> None:
    assert resolve("faster_rcnn_r50_fpn", "shapes", epochs=24).milestones == [16, 22]


def test_the_scale_follows_the_backbone_unless_it_is_given() -> None:
    assert resolve("faster_rcnn_lite0_fpn", "shapes").scale == "small"
    assert resolve("faster_rcnn_r50_fpn", "shapes").scale == "paper"
    assert resolve("faster_rcnn_r50_fpn", "shapes", scale="small").width == 64


def test_a_random_backbone_learns_everywhere() -> None:
    scratch = resolve("faster_rcnn_r50_fpn", "shapes")
    assert (scratch.frozen_stages, scratch.norm_eval) == (-1, False)
    with_weights = resolve("faster_rcnn_r50_fpn", "shapes", overrides=["weights_backbone=some.pth"])
    assert (with_weights.frozen_stages, with_weights.norm_eval) == (1, True)
    fine_tuned = resolve("faster_rcnn_r50_fpn", "shapes", weights="torchvision")
    assert (fine_tuned.frozen_stages, fine_tuned.norm_eval) == (1, True)


def test_dotted_overrides_reach_inside() -> None:
    config = resolve(
        "faster_rcnn_lite0_drfpn",
        "shapes",
        overrides=["neck_options.convention=release", "detector_options.anchor_scale=8", "weight_decay=1e-3"],
    )
    assert config.neck_options == {"convention": "release"}
    assert config.detector_options["anchor_scale"] == 8
    assert config.detector_options["representation_size"] == 256  # the scale's, still there
    assert config.weight_decay == 1e-3


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epoch=3", "Unknown setting 'epoch'. Did you mean 'epochs'?"),
        ("epochs", "An override is `key=value`"),
        ("epochs=0", "Setting 'epochs' is 0"),
        ("batch_size=many", "Setting 'batch_size' is 'many'"),
        ("hflip_prob=2", "Setting 'hflip_prob' is 2"),
        ("width=[", "not a value that YAML can read"),
    ],
)
def test_a_wrong_override_is_one_sentence(override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        resolve("faster_rcnn_lite0_fpn", "shapes", overrides=[override])
    assert expected in str(caught.value)
    assert isinstance(caught.value, UsageError)


def test_yaml_reads_off_as_a_bool_and_amp_takes_it_as_its_word() -> None:
    assert resolve("faster_rcnn_lite0_fpn", "shapes", overrides=["amp=off"]).amp == "off"


def test_a_run_writes_its_convention_down_and_one_without_is_of_the_papers_convention(tmp_path) -> None:
    config = resolve("faster_rcnn_lite0_drfpn", "shapes", overrides=["neck_options.context=null"])
    assert config.neck_options == {"convention": "bounded", "context": None}
    saved = {"model": "faster_rcnn_lite0_drfpn", "data": "shapes"}
    assert check_config(saved).neck_options == RunConfig(**saved).neck_options == {"convention": "bounded"}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(saved))
    assert read_config(tmp_path / "config.yaml").neck_options == {"convention": "paper"}
    assert check_config(saved, saved=True).neck_options == {"convention": "paper"}
    without = saved | {"neck_options": {"context": None}}
    assert check_config(without, saved=True).neck_options == {"convention": "paper", "context": None}
    release = saved | {"neck_options": {"convention": "release"}}
    assert check_config(release, saved=True).neck_options == {"convention": "release"}
    assert check_config(saved | {"model": "faster_rcnn_lite0_fpn"}, saved=True).neck_options == {}


def test_settings_survive_their_file(tmp_path) -> None:
    config = resolve("faster_rcnn_lite0_drfpn", "shapes", epochs=3, overrides=["neck_options.context=null"])
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml())
    assert read_config(file) == config
    assert list(yaml.safe_load(config.to_yaml())) == list(RunConfig.model_fields)


def test_a_file_that_is_no_settings_is_refused(tmp_path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("- a list")
    with pytest.raises(UserError, match="must hold settings"):
        read_config(file)
    with pytest.raises(UserError, match="Unknown setting"):
        check_config({"modle": "x"})

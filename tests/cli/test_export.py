import sys


def test_an_unknown_format_is_told_with_the_nearest(drfpn) -> None:
    result = drfpn("export", "run", "--format", "onx")
    assert result.code == 2
    assert "Did you mean 'onnx'?" in result.err


def test_a_file_that_does_not_end_as_its_format_does_is_refused(drfpn) -> None:
    result = drfpn("export", "run", "--format", "openvino", "--out", "a.onnx")
    assert result.code == 2
    assert "must end in .xml" in result.err


def test_8_bits_want_openvino_and_images(drfpn) -> None:
    for options in (["--format", "onnx", "--data", "shapes"], ["--format", "openvino"]):
        result = drfpn("export", "run", "--int8", *options)
        assert result.code == 2
        assert "--data" in result.err


def test_a_missing_package_is_told_with_what_to_install(drfpn, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    result = drfpn("export", "run", "--format", "onnx")
    assert result.code == 1
    assert 'pip install "drfpn[onnx]"' in result.err

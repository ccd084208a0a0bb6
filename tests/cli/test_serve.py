"""``drfpn app``; tests/app looks at its page."""

import builtins
import signal
import subprocess
import sys
import urllib.request

import pytest

from drfpn.utils.errors import UserError


def heed_ctrl_c() -> None:
    """Undo what a shell does that starts the tests in the background: what it starts ignores Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.slow
def test_app_serves_the_shipped_detector_on_this_machine_alone_until_ctrl_c() -> None:
    pytest.importorskip("gradio", reason="the page needs the extra app")
    process = subprocess.Popen(
        [sys.executable, "-m", "drfpn", "app"], stdout=subprocess.PIPE, text=True, preexec_fn=heed_ctrl_c
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(line.split()[0]) as answer:
            assert b'"title":"drfpn"' in answer.read()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    finally:
        process.kill()


def test_without_gradio_app_says_what_to_install(monkeypatch) -> None:
    real = builtins.__import__

    def missing(name, *arguments, **keywords):
        if name.split(".")[0] == "gradio":
            raise ModuleNotFoundError("No module named 'gradio'", name="gradio")
        return real(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", missing)
    for module in [
        name
        for name in sys.modules
        if name.split(".")[0] == "gradio" or name in ("drfpn.app.callbacks", "drfpn.app.page")
    ]:
        monkeypatch.delitem(sys.modules, module)
    from drfpn.cli.serve import serve

    with pytest.raises(UserError, match=r"pip install 'drfpn\[app\]'"):
        serve()


def test_app_refuses_a_run_that_is_none(tmp_path) -> None:
    from drfpn.cli.serve import serve

    with pytest.raises(UserError, match=r"holds neither best\.safetensors"):
        serve([tmp_path])

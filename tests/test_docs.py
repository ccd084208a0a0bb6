"""What README and docs say is tried here, as far as it runs in seconds."""

import re
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_readmes_python_runs(capsys) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(code, "README.md", "exec"), {})
    assert "'3': (1, 256, 8, 12)" in capsys.readouterr().out


def test_every_command_of_the_readme_exists() -> None:
    from drfpn.cli.app import app

    command = get_command(app)
    known = set(command.commands) | {f"data {name}" for name in command.commands["data"].commands}
    code = "\n".join(re.findall(r"```bash\n(.*?)```", README, flags=re.DOTALL)) + "\n".join(
        re.findall("`[^`\n]+`", README)
    )
    named = re.findall(r"^`?drfpn ((?:data )?)([a-z|\\]+)", code, flags=re.MULTILINE)
    assert len(named) > 10
    for group, names in named:
        for name in names.split("\\|"):
            assert group + name in known, group + name


@pytest.mark.parametrize("page", ["README.md", "docs/design.md", "CONTRIBUTING.md"])
def test_links_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)#]+)\)", text):
        assert (ROOT / page).parent.joinpath(target).exists(), target

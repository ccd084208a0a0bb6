"""Import of optional packages."""

from importlib import import_module
from types import ModuleType

from drfpn.utils.errors import UserError


def import_optional(package: str, extra: str | None = None, *, feature: str = "This") -> ModuleType:
    """Import a package that is not a dependency of this library.

    Args:
        package: name of the package.
        extra: extra of this library that installs the package, such as ``"onnx"``; ``None`` for a package of no extra.
        feature: what needs the package, the beginning of the error's message.

    Raises:
        UserError: the package is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        requirement = package if extra is None else f'"drfpn[{extra}]"'
        raise UserError(
            f"{feature} needs the package {package}, which is not installed: pip install {requirement}"
        ) from error

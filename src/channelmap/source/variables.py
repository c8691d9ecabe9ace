"""Replace variables in text: `${NAME}`, `${NAME:-default}`, and `$${` for a literal `${`."""

import re
from collections.abc import Callable, Mapping

from channelmap.codes import Code
from channelmap.environment import FilledText

_VARIABLE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{[^}]*\}?")


def has_variable(text: str) -> bool:
    """Whether a text contains a variable, not only a literal `${`."""
    return any(variable.group() != "$${" for variable in _VARIABLE.finditer(text))


def fill(text: str, env: Mapping[str, str], report: Callable[[str, str, str], None]) -> str:
    """Replace the variables in a text; as in a shell, a default is used if the variable is unset or empty.

    Args:
        text: the text of a scalar.
        env: the environment.
        report: called with code, message and hint for a variable that cannot be replaced; it becomes empty.

    Returns:
        The text; a `FilledText` if it contains a value from the environment.

    """
    from_environment = False

    def replacement(variable: re.Match[str]) -> str:
        name, default = variable.groups()
        if variable.group() == "$${":
            return "${"
        if name is None:
            report(
                Code.VARIABLE_MALFORMED,
                f"'{variable.group()[:60]}' names no environment variable",
                "write ${NAME} or ${NAME:-default}, or $${ for a literal ${",
            )
            return ""
        if name not in env and default is None:
            report(
                Code.UNSET_VARIABLE,
                f"environment variable '{name}' is not set",
                f"set it, or give a default: ${{{name}:-default}}",
            )
        nonlocal from_environment
        from_environment |= bool(env.get(name))
        return env.get(name) or default or ""

    filled = _VARIABLE.sub(replacement, text)
    return FilledText(filled, text) if from_environment else filled

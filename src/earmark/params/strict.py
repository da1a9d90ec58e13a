"""YAML as people write it, with every key once."""

from typing import Any

import yaml

from earmark import InputError


class TwiceError(yaml.MarkedYAMLError):
    """A key stands twice in a mapping."""


class _Loader(yaml.SafeLoader):
    """Refuses what YAML forbids and PyYAML reads: of two equal keys the last would win."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """A mapping as it stands in the text, before `<<` is followed."""
        node = super().compose_mapping_node(anchor)
        lines: dict[tuple[str, Any], int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                again = (key.tag, key.value)
                if again in lines:
                    raise TwiceError(
                        problem=f"the key {key.value} stands twice, in lines {lines[again]} and {key.start_mark.line + 1}: keep one"
                    )
                lines[again] = key.start_mark.line + 1
        return node


def parse_yaml(text: str | bytes, where: str) -> Any:
    """Content of YAML, of bytes in whatever encoding they are marked. Errors: InputError naming `where`, the line and what is wrong."""
    try:
        return yaml.load(text, _Loader)
    except TwiceError as error:
        raise InputError(f"{where}: {error.problem}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise InputError(f"{where}: not YAML: {place}{error.problem}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: not YAML: {' '.join(str(error).split())}") from error

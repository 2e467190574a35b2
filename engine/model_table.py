"""What the documents say of models, made from the registries: `python -m preftree.engine.model_table` prints it."""

from preftree.engine.config.architectures import ARCHITECTURES
from preftree.engine.config.multimodal import MULTIMODAL
from preftree.engine.gguf.architectures import BY_FIELD, FAMILIES

HEADER = "| family (`model_type`) | models | formats | reward models |\n|---|---|---|---|\n"


def model_table() -> str:
    """Markdown: a line for each architecture, by name, then one for each family of directories with vision."""
    in_gguf = {family.model_type for family in (*FAMILIES.values(), *BY_FIELD.values())}
    rows = [
        _row(key, found.examples, "directory, GGUF" if key in in_gguf else "directory", found.reward_class is not None)
        for key, found in sorted(ARCHITECTURES.items())
    ]
    rows += [
        _row(key, f"{found.title} with vision: its text model", "directory", found.reward_class is not None)
        for key, found in sorted(MULTIMODAL.items())
    ]
    return HEADER + "".join(rows)


def family_list() -> str:
    """The README's line: the names of the table."""
    return ", ".join(f"`{key}`" for key in (*sorted(ARCHITECTURES), *sorted(MULTIMODAL)))


def _row(key: str, models: str, formats: str, has_reward_class: bool) -> str:
    return f"| `{key}` | {models} | {formats} | {'yes' if has_reward_class else 'no'} |\n"


if __name__ == "__main__":
    print(f"README.md:\n{family_list()}\n\ndocs/models.md:\n{model_table()}", end="")

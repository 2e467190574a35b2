"""A model in one GGUF file, or in the parts that llama.cpp's gguf-split makes: NAME-00001-of-00003.gguf and so on."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from preftree.engine.errors import ModelError
from preftree.engine.files import GGUF_PART, is_there
from preftree.engine.gguf.header import GgufHeader, GgufTensor, read_header

NUMBER, COUNT, TENSORS = "split.no", "split.count", "split.tensors.count"
AGAIN = "download all parts of one model again"


@dataclass(frozen=True)
class GgufParts:
    """The headers of all files of a model, as one.

    Attributes:
        files: first part first.
        metadata: that of the first part; the others have none but their place.
    """

    files: tuple[Path, ...]
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]


def model_name(path: Path) -> str:
    """What people call the model of a file, whichever part of it that is."""
    match = GGUF_PART.fullmatch(path.stem)
    return match[1] if match else path.stem


def read_parts(path: Path) -> GgufParts:
    """The model that the file is, or is a part of. ModelError for a broken file, and parts that are not of one model.

    Parts of two models with the same tensors cannot be told from each other: the format holds no more.
    """
    named = read_header(path)
    count = named.metadata.get(COUNT, 1)
    if type(count) is not int or count < 0:
        raise ModelError(f"{path}: {COUNT} is {count!r:.100}, which is no number of parts; use another file")
    if count <= 1:
        return GgufParts((path,), named.metadata, named.tensors)
    match = GGUF_PART.fullmatch(path.stem)
    if match is None or count != int(match[3]):
        raise ModelError(f"{path}: is one of {count} parts; give it back its name, NAME-00001-of-{count:05}.gguf")
    files = tuple(path.with_stem(f"{match[1]}-{number:05}-of-{count:05}") for number in range(1, count + 1))
    for file in files:
        if not is_there(file):
            raise ModelError(f"{file}: is missing; download all {count} parts into one directory")
    headers = {file: named if file == path else read_header(file) for file in files}
    first = headers[files[0]]
    tensors: dict[str, GgufTensor] = {}
    for number, (file, header) in enumerate(headers.items()):
        _check_part(file, header, number, first)
        for name, tensor in header.tensors.items():
            if name in tensors:
                raise ModelError(
                    f"{file}: tensor {name!r:.100} is also in {tensors[name].path.name}; download both again"
                )
            tensors[name] = tensor
    if first.metadata.get(TENSORS) != len(tensors):
        said = first.metadata.get(TENSORS)
        raise ModelError(f"{files[0]}: the parts hold {len(tensors)} tensors instead of {said!r:.100}; {AGAIN}")
    return GgufParts(files, first.metadata, tensors)


def _check_part(file: Path, header: GgufHeader, number: int, first: GgufHeader) -> None:
    """ModelError unless the file says that it is part `number`, from 0 on, of the first part's model."""
    metadata = header.metadata
    if metadata.get(NUMBER) != number:
        raise ModelError(f"{file}: says that it is part {metadata.get(NUMBER)!r:.100}, counted from 0; {AGAIN}")
    shared = {COUNT, TENSORS, *(key for key in metadata if key.startswith("general.") and key != "general.alignment")}
    for key in sorted(shared):
        if metadata.get(key) != first.metadata.get(key):
            raise ModelError(f"{file}: is a part of another model ({key} differs from the first part's); {AGAIN}")

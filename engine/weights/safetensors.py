"""Tensors by their Hugging Face names, from safetensors files. Nothing pickled is ever opened."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch

from preftree.engine.config.model_config import ModelConfig
from preftree.engine.config.multimodal import Multimodal
from preftree.engine.errors import ModelError
from preftree.engine.files import is_there, read_json
from preftree.engine.weights.conversion import check_finite, joined
from preftree.engine.weights.mapped_file import MappedFile
from preftree.engine.weights.names import EMBEDDING, HEAD, SCALAR_HEAD, expected_tensors, is_draft, unread_modules
from preftree.engine.weights.safetensors_check import Entry, read_entries

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
ADAPTER = "adapter_config.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
# Of numbers that mean something with others beside them only: the parts of a quantised matrix.
PART_DTYPES = DTYPES | {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
}
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
CPU = torch.device("cpu")
# Numbers that are converted at a time: no more than these exist in the type that is stored, or are mapped.
SLICE = 1 << 20


class TensorSource(Protocol):
    """Where a model's tensors come from."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that decides a tensor, for fingerprints."""

    def names(self) -> frozenset[str]:
        """Hugging Face names of all tensors, such as "model.layers.0.self_attn.q_proj.weight"."""

    def stored_types(self) -> Counter[str]:
        """How many tensors are stored as which type, by the file format's own names."""

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """One tensor on `device` in memory of its own.

        Another device than the CPU gets the bytes of the file without a copy on the host in between.

        Args:
            name: see `names`.
            shape: what the model's configuration asks for.
            device: where it goes.
            dtype: what it becomes, rounded once, without a copy of the whole in another type. None: as stored
                (float32, float16 or bfloat16; float64 where a file holds it shifted).

        Raises:
            ModelError: naming the tensor when it is missing, of another shape or dtype, or not finite everywhere.
            InputError: it holds values beyond the range of `dtype`.
        """

    def close(self) -> None:
        """Let go of the files. No tensor can be read afterwards."""


def check_complete(source: TensorSource, config: ModelConfig, origin: str) -> None:
    """ModelError when a tensor is missing, or when there is one that this model would not use.

    An unused tensor (a bias, an adapter) means that the weights belong to another model.
    Harmless are old checkpoints' `rotary_emb.inv_freq`, keys and values of layers that use those of others, an output
    matrix that a reward model has kept, and a tied head if it repeats the embedding (which is compared: the one case in
    which tensors are read here).
    """
    expected, present = expected_tensors(config), source.names()
    missing = sorted(expected.keys() - present)
    if missing == [SCALAR_HEAD]:
        raise ModelError(
            f"{origin}: tensor {SCALAR_HEAD!r} is missing, and with it what a reward model was trained for; save the "
            "model with its head (with LoRA: modules_to_save=['score'])"
        )
    if missing:
        raise ModelError(f"{origin}: {_some(missing)} missing; download the model again with all its files")
    unread = unread_modules(config)
    extra = sorted(name for name in present - expected.keys() if not name.endswith(".rotary_emb.inv_freq"))
    extra = [name for name in extra if name.rpartition(".")[0] not in unread and not is_draft(config, name)]
    if config.tie_embeddings and HEAD in extra:
        shape = expected[EMBEDDING]
        if not torch.equal(source.tensor(HEAD, shape), source.tensor(EMBEDDING, shape)):
            raise ModelError(
                f"{origin}: config.json ties the embeddings, but {HEAD} differs from {EMBEDDING}; "
                'set "tie_word_embeddings": false in config.json if that is what the model was trained with'
            )
        extra.remove(HEAD)
    if extra:
        raise ModelError(
            f"{origin}: {_some(extra)} unknown to a {config.title} model; config.json and weights do not match"
        )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more tensors are" if len(names) > 1 else " is"
    return f"tensor {names[0]!r:.100}{more}"


def check_shape(actual: tuple[int, ...], name: str, shape: tuple[int, ...], origin: str) -> None:
    """ModelError unless the stored shape is the one that the configuration asks for."""
    if actual != shape:
        raise ModelError(
            f"{origin}: tensor {name} has shape {actual}, but the model's configuration asks for {shape}; "
            "they do not belong together"
        )


class SafetensorsSource:
    """`model.safetensors`, or the shards that `model.safetensors.index.json` names, of one directory.

    skipped: tensors beside those of the text model, by their names in the files.
    """

    def __init__(self, directory: Path, multimodal: Multimodal | None = None) -> None:
        """Read and check the headers only; ModelError as `read_entries`. multimodal: tells vision's tensors apart."""
        self._directory = directory
        self.skipped: tuple[str, ...] = ()
        self._entries: dict[str, tuple[Path, Entry]] = {}
        self._open: dict[Path, MappedFile] = {}
        self.files: tuple[Path, ...]
        index = directory / INDEX
        if is_there(directory / WEIGHTS):
            shards, self.files = [directory / WEIGHTS], (directory / WEIGHTS,)
            weight_map = None
        elif is_there(index):
            weight_map = _weight_map(index)
            shards = [directory / name for name in sorted(set(weight_map.values()))]
            self.files = (index, *shards)
        else:
            raise ModelError(_no_weights(directory))
        for shard in shards:
            for name, entry in read_entries(shard).items():
                if name in self._entries:
                    raise ModelError(f"{shard}: tensor {name!r:.100} is also in {self._entries[name][0].name}")
                self._entries[name] = (shard, entry)
        for name, shard_name in (weight_map or {}).items():
            if name not in self._entries or self._entries[name][0].name != shard_name:
                raise ModelError(f"{index}: tensor {name!r:.100} is not in {shard_name}; download both again")
        if multimodal is not None:
            self._keep_text(multimodal)

    def _keep_text(self, multimodal: Multimodal) -> None:
        """Of the text model's tensors only, by the names that they have without vision beside them."""
        stored, self._entries = self._entries, {}
        for name, place in stored.items():
            plain = multimodal.tensor_name(name)
            if plain is None:
                continue
            if plain in self._entries:
                raise ModelError(f"{place[0]}: tensor {name!r:.100} is there twice, under two prefixes")
            self._entries[plain] = place
        self.skipped = tuple(sorted(name for name in stored if multimodal.tensor_name(name) is None))

    def names(self) -> frozenset[str]:
        return frozenset(self._entries)

    def stored_types(self) -> Counter[str]:
        return Counter(entry.dtype for _, entry in self._entries.values())

    def tensor(
        self, name: str, shape: tuple[int, ...], device: torch.device = CPU, dtype: torch.dtype | None = None
    ) -> torch.Tensor:
        """See TensorSource. A copy: what lies in the mapped file goes when the file does."""
        if name not in self._entries:
            raise ModelError(f"{self._directory}: tensor {name} is missing; download the model again")
        path, entry = self._entries[name]
        if entry.dtype not in DTYPES:
            raise ModelError(f"{path}: tensor {name} has dtype {entry.dtype}; preftree reads {', '.join(DTYPES)}")
        check_shape(entry.shape, name, shape, str(path))
        stored = DTYPES[entry.dtype]
        if dtype is None or (dtype == stored and device.type != CPU.type):
            with self.mapped(name) as mapped:
                return check_finite(mapped.to(device, copy=True), name, str(path))
        return joined(_slices(self._file(path), entry), shape, device, dtype, name, str(path))

    def entries(self) -> dict[str, Entry]:
        """The header's line of every tensor."""
        return {name: entry for name, (_, entry) in self._entries.items()}

    @contextmanager
    def mapped(self, name: str) -> Iterator[torch.Tensor]:
        """A tensor of one of PART_DTYPES in place: the mapped file itself, which it must not outlive."""
        path, entry = self._entries[name]
        file = self._file(path)
        view = file.view(entry.begin, entry.end)
        yield torch.frombuffer(view, dtype=PART_DTYPES[entry.dtype]).view(entry.shape)
        file.release(entry.begin, entry.end)

    def _file(self, path: Path) -> MappedFile:
        if path not in self._open:
            self._open[path] = MappedFile(path)
        return self._open[path]

    def close(self) -> None:
        for file in self._open.values():
            file.close()
        self._open.clear()


def _slices(file: MappedFile, entry: Entry) -> Iterator[torch.Tensor]:
    """A tensor's numbers, a part of the file at a time."""
    stored = DTYPES[entry.dtype]
    for first in range(entry.begin, entry.end, SLICE * stored.itemsize):
        last = min(first + SLICE * stored.itemsize, entry.end)
        yield torch.frombuffer(file.view(first, last), dtype=stored)
        file.release(first, last)


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor name to shard; shards are plain names of safetensors files in the same directory."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ModelError(f"{index}: weight_map is missing or empty; download the file again")
    for shard in weight_map.values():
        plain = isinstance(shard, str) and shard.endswith(".safetensors") and not set(shard) & set("/\\\0:")
        if not plain or ".." in shard:
            raise ModelError(f"{index}: weight_map names {shard!r:.100}, no safetensors file in the same directory")
    return weight_map


def _no_weights(directory: Path) -> str:
    pickled: Iterable[Path] = (path for pattern in PICKLED for path in sorted(directory.glob(pattern)))
    for path in pickled:
        return (
            f"{directory}: holds pickled weights ({path.name}), which preftree never opens; convert them to safetensors"
        )
    if is_there(directory / ADAPTER):
        return f"{directory}: holds an adapter ({ADAPTER}) without its model; merge it into the model, and save that"
    return f"{directory}: holds neither {WEIGHTS} nor {INDEX}; download the model again with all its files"

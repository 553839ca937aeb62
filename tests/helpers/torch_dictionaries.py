"""Files of PyTorch written opcode by opcode, as `torch.save` writes a dictionary of tensors; without PyTorch."""

from __future__ import annotations

import zipfile
from pathlib import Path


def text(value: str) -> bytes:
    return b"X" + len(value).to_bytes(4, "little") + value.encode()


def number(value: int) -> bytes:
    return b"J" + value.to_bytes(4, "little", signed=True)


def tensor(key: str, storage: str, size: int, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    """The opcodes with which PyTorch describes a tensor."""
    storage_id = (
        b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + number(size) + b"tQ"
    )
    sizes = b"(" + b"".join(map(number, shape)) + b"t"
    steps = b"(" + b"".join(map(number, strides)) + b"t"
    empty = b"ccollections\nOrderedDict\n)R"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage_id + number(offset) + sizes + steps + b"\x89" + empty + b"tR"
    )


def save(path: Path, body: bytes, storages: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        for key, content in storages.items():
            archive.writestr(f"archive/data/{key}", content)
    return path


def saved_dict(items: dict[str, bytes]) -> bytes:
    return b"}(" + b"".join(text(k) + v for k, v in items.items()) + b"u"

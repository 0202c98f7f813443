"""Strangers' pytorch_model.bin: pickles, archives, and the formats before them."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from tests.making.bad_input import EMBED, FC1
from tests.making.checkpoints import Attack, legacy, to_torch
from tests.making.strangers.command_lines import PARAMS, PLAN, RUN
from tests.making.strangers.damaging import EFFECT, all_of, cut
from tests.making.strangers.stranger import Damage, Stranger

BIN = "pytorch_model.bin"


def torch_file(content: bytes | Callable[[dict[str, torch.Tensor], Path], object]) -> Damage:
    """A pytorch_model.bin in the place of model.safetensors."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        file = folder / "pytorch_model.bin"
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            content(tensors, file)

    return damage


def rezipped(change: Callable[[str, bytes], bytes | None]) -> Damage:
    """A pytorch_model.bin each of whose members is changed, or left out where None comes."""

    def damage(folder: Path) -> None:
        to_torch(folder)
        file = folder / "pytorch_model.bin"
        with zipfile.ZipFile(file) as before:
            members = {name: before.read(name) for name in before.namelist()}
        with zipfile.ZipFile(file, "w") as after:
            for name, content in members.items():
                if (changed := change(name, content)) is not None:
                    after.writestr(name, changed)

    return damage


def pickled(stream: bytes) -> Damage:
    """A pytorch_model.bin whose pickle is this."""
    return rezipped(lambda name, content: stream if name.endswith("data.pkl") else content)


def _opcodes(*arguments: object, storage: int = 4, key: str = "0") -> bytes:
    """The pickle of one tensor {'a': …} in torch's manner: offset, size and stride as they are given."""

    class Tensor:
        def __reduce__(self) -> tuple[Any, ...]:
            return torch._utils._rebuild_tensor_v2, (_Storage(), *arguments, False, {})

    class _Storage:
        pass

    class Pickler(pickle.Pickler):
        def persistent_id(self, value: Any) -> Any:
            if isinstance(value, _Storage):
                return "storage", torch.FloatStorage, key, "cpu", storage
            return None

    written = io.BytesIO()
    Pickler(written, 2).dump({"a": Tensor()})
    return written.getvalue()


def crafted(*arguments: object, storage: int = 4, key: str = "0", held: int = 16) -> Damage:
    """A pytorch_model.bin of one tensor whose description does not fit its storage."""

    def damage(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as file:
            file.writestr("archive/data.pkl", _opcodes(*arguments, storage=storage, key=key))
            file.writestr("archive/byteorder", "little")
            file.writestr("archive/data/0", bytes(held))
            file.writestr("archive/version", "3\n")

    return damage


def memo(stream: bytes) -> bytes:
    """A pickle of protocol 2 around a stream of opcodes."""
    return b"\x80\x02" + stream + b"."


def _bomb(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/version", "3\n")
        with file.open("archive/data.pkl", "w", force_zip64=True) as member:
            for _ in range(2000):
                member.write(bytes(1 << 20))


def _big(name: str, content: bytes) -> bytes:
    return b"big" if name.endswith("byteorder") else content


def _bin(id: str, damage: Damage, *more: str, arguments: tuple[str, ...] = EMBED, either: bool = False) -> Stranger:
    return Stranger(f"bin: {id}, {arguments[0]}", arguments, (BIN, *more), damage, apart=True, either=either)


def _named(id: str, damage: Damage, *, arguments: tuple[str, ...] = EMBED) -> Stranger:
    """A pytorch_model.bin that can be read, and does not hold what it should: the model is named."""
    return Stranger(f"bin: {id}, {arguments[0]}", arguments, ("'./model'",), damage, apart=True)


TORCH_FILES = (
    _bin("byteorder big", rezipped(_big)),
    _bin("byteorder big", rezipped(_big), arguments=PARAMS),
    _bin("byteorder odd", rezipped(lambda n, c: b"middle" if n.endswith("byteorder") else c)),
    _bin("pickle of protocol 0", torch_file(lambda t, f: torch.save(t, f, pickle_protocol=0)), arguments=PARAMS),
    _bin(
        "pickle of protocol 4",
        torch_file(lambda t, f: torch.save(t, f, pickle_protocol=4)),
        arguments=PARAMS,
        either=True,
    ),
    _bin("pickle of protocol 5", torch_file(lambda t, f: torch.save(t, f, pickle_protocol=5))),
    _bin("pickle of protocol 200", pickled(b"\x80\xc8}.")),
    _bin("TorchScript", rezipped(lambda n, c: None if n.endswith("data.pkl") else c)),
    _bin("TorchScript with constants", torch_file(lambda _, f: _script(f))),
    _bin("TorchScript with constants", torch_file(lambda _, f: _script(f)), arguments=PARAMS),
    _bin(
        "quantized tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.quantize_per_tensor(t[FC1], 0.1, 0, torch.qint8)}, f)),
        FC1,
    ),
    _bin(
        "quantized tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.quantize_per_tensor(t[FC1], 0.1, 0, torch.qint8)}, f)),
        FC1,
        arguments=PARAMS,
    ),
    _bin("sparse tensors", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse()}, f)), FC1, arguments=RUN),
    _bin(
        "sparse tensors", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse()}, f)), FC1, arguments=PARAMS
    ),
    _bin(
        "sparse rows", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to_sparse_csr()}, f)), FC1, arguments=PARAMS
    ),
    _bin(
        "complex tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to(torch.complex64)}, f)),
        FC1,
        arguments=RUN,
        either=True,
    ),
    _bin(
        "nested tensors",
        torch_file(lambda t, f: torch.save(t | {FC1: torch.nested.nested_tensor([t[FC1], t[FC1][:2]])}, f)),
        arguments=PARAMS,
    ),
    _bin("tensors of meta", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to("meta")}, f)), FC1, arguments=RUN),
    _bin(
        "tensors of meta", torch_file(lambda t, f: torch.save(t | {FC1: t[FC1].to("meta")}, f)), FC1, arguments=PARAMS
    ),
    _bin("offset beyond its storage", crafted(100, (4,), (1,)), arguments=PARAMS),
    _bin("offset negative", crafted(-4, (4,), (1,)), arguments=PARAMS),
    _bin("size beyond its storage", crafted(0, (10**6,), (1,)), arguments=PARAMS),
    _bin("size of 2^62", crafted(0, (2**62,), (1,)), arguments=PARAMS),
    _bin("size negative", crafted(0, (-4,), (1,)), arguments=PARAMS),
    _bin("size beyond 64 bits", crafted(0, (2**70,), (1,)), arguments=PARAMS),
    _bin("size of strings", crafted(0, ("x",), (1,)), arguments=PARAMS),
    _bin("stride beyond its storage", crafted(0, (4,), (10**9,)), arguments=PARAMS),
    _bin("stride negative", crafted(0, (4,), (-1,)), arguments=PARAMS),
    _bin("stride of 0 and a size of 2^40", crafted(0, (2**40,), (0,)), arguments=PARAMS),
    _bin("strides of another length", crafted(0, (2, 2), (1,)), arguments=PARAMS),
    _bin("storage larger than its member", crafted(0, (1000,), (1,), storage=1000), arguments=PARAMS),
    _bin("storage of 2^60", crafted(0, (2**60,), (1,), storage=2**60), arguments=PARAMS),
    _bin("storage negative", crafted(0, (4,), (1,), storage=-4), arguments=PARAMS),
    _bin("storage that climbs out", crafted(0, (4,), (1,), key="../../x"), arguments=PARAMS),
    _bin("storage missing", rezipped(lambda n, c: None if n.endswith("data/0") else c)),
    _bin("storage missing", rezipped(lambda n, c: None if n.endswith("data/0") else c), arguments=PARAMS),
    _bin("storage short", rezipped(lambda n, c: c[:16] if "/data/" in n else c), arguments=RUN),
    _bin("zip bomb", _bomb),
    _bin("zip bomb", _bomb, arguments=PARAMS),
    _bin("zip of nothing", torch_file(b"PK\x05\x06" + bytes(18))),
    _bin("zip of a text", torch_file(lambda _, f: zipfile.ZipFile(f, "w").writestr("a.txt", "x"))),
    _named("huge memo index", pickled(memo(b"}r\xff\xff\xff\x7f"))),
    _bin("memo that is not there", pickled(memo(b"j\xff\xff\xff\x7f"))),
    _bin("string of 2^31", pickled(memo(b"X\xff\xff\xff\x7fabc"))),
    _bin("pickle that is endless", pickled(b"\x80\x02" + b"(" * 10**6)),
    _bin("pickle that pops from nothing", pickled(memo(b"0000"))),
    _bin("pickle that is empty", pickled(b"")),
    _bin("pickle nested 1e5 deep", pickled(memo(b"]" * 10**5 + b"a" * (10**5 - 1)))),
    _named("pickle of itself", pickled(memo(b"}q\x00X\x01\x00\x00\x00ah\x00s")), arguments=PARAMS),
    _bin("code by REDUCE", pickled(memo(b"cos\nmkdir\nX\x06\x00\x00\x00it ran\x85R")), "code"),
    _bin("code by REDUCE", pickled(memo(b"cos\nmkdir\nX\x06\x00\x00\x00it ran\x85R")), "code", arguments=PARAMS),
    _bin("code by INST", pickled(memo(b"(X\x06\x00\x00\x00it ranios\nmkdir\n")), arguments=PLAN),
    _bin("code by BUILD", pickled(memo(b"ccollections\nOrderedDict\n)RX\x01\x00\x00\x00x}b")), arguments=PARAMS),
    _bin("code before 1.6", torch_file(lambda t, f: legacy({**t, "x": Attack(EFFECT)}, f)), "code", arguments=PARAMS),
    *(_bin(f"{share:.2%} of it", all_of(to_torch, cut(BIN, share))) for share in (0.0001, 0.1, 0.9, 0.999)),
    *(
        _bin(
            f"{share:.2%} of a file of before 1.6",
            all_of(lambda f: to_torch(f, legacy), cut(BIN, share)),
            arguments=PARAMS,
        )
        for share in (0.0001, 0.01, 0.1, 0.999)
    ),
    _bin("magic of before 1.6 alone", torch_file(pickle.dumps(0x1950A86A20F9469CFC6C, 2))),
    _bin("magic of before 1.6 that is odd", torch_file(pickle.dumps(0xBAD, 2) + bytes(100))),
    _bin(
        "protocol of before 1.6 that is odd",
        torch_file(
            pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(7, 2) + pickle.dumps({}, 2) + pickle.dumps({}, 2)
        ),
    ),
    _bin("tar of before 0.1.10", torch_file(b"storages" + bytes(249) + b"ustar\x00" + bytes(1024))),
    _named("keys that are numbers", torch_file(lambda t, f: torch.save(dict(enumerate(t.values())), f))),
    _named("tensors within lists", torch_file(lambda t, f: torch.save({name: [each] for name, each in t.items()}, f))),
    Stranger(
        "bin: a state_dict within a dictionary, params",
        PARAMS,
        (BIN,),
        torch_file(lambda t, f: torch.save({"state_dict": t, "epoch": 1}, f)),
        apart=True,
    ),
)


def _script(file: Path) -> None:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/constants.pkl", b"\x80\x02).")
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/code/__torch__.py", "print('it ran')")
        archive.writestr("archive/version", "3\n")

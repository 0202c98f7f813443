"""What is in a pytorch_model.bin, told without torch, against torch itself."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.making.checkpoints import Attack
from txinspect.errors import SourceError
from txinspect.sources import torch_files

TENSORS = {
    "float32": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)),
    "float16": torch.arange(4.0).view(2, 2).half(),
    "bfloat16": torch.ones(3, dtype=torch.bfloat16),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
    "uint16": torch.tensor([1, 2, 65535], dtype=torch.uint16),
    "complex": torch.tensor([1 + 2j], dtype=torch.complex64),
    "bool": torch.tensor([True, False]),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0, 3),
    "part": torch.arange(10)[2:5],
    "parameter": torch.nn.Parameter(torch.ones(2, 1, 5)),
    "transposed": torch.arange(12.0).view(3, 4).t(),
}


@pytest.mark.parametrize("in_zip", [True, False])
def test_names_types_shapes_and_places(in_zip: bool, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    torch.save(TENSORS | {"epoch": 3}, file, _use_new_zipfile_serialization=in_zip)
    found, content = torch_files.read(file), file.read_bytes()
    assert list(found) == list(TENSORS)
    for name, tensor in TENSORS.items():
        told = found[name]
        dtype = str(tensor.dtype).removeprefix("torch.")
        assert (told.dtype, told.shape, told.bytes) == (dtype, tuple(tensor.shape), tensor.nbytes)
        assert (told.offset is None) == (name == "transposed")
        if told.offset is not None:
            raw = tensor.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
            assert content[told.offset : told.offset + told.bytes] == raw


def test_a_state_dict_of_a_module(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    torch.save(torch.nn.Linear(3, 2).state_dict(), file)
    assert {name: each.shape for name, each in torch_files.read(file).items()} == {"weight": (2, 3), "bias": (2,)}


@pytest.mark.parametrize("in_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol(in_zip: bool, protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    torch.save({"a": torch.ones(2)}, file, pickle_protocol=protocol, _use_new_zipfile_serialization=in_zip)
    assert torch_files.read(file)["a"].shape == (2,)


@pytest.mark.parametrize("in_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_code_never_runs(in_zip: bool, protocol: int, tmp_path: Path) -> None:
    file, effect = tmp_path / "x.bin", tmp_path / "it ran"
    bad = {"a": torch.ones(2), "b": Attack(effect)}
    torch.save(bad, file, pickle_protocol=protocol, _use_new_zipfile_serialization=in_zip)
    with pytest.raises(SourceError, match="holds objects other than weights, which may be code"):
        torch_files.read(file)
    assert not effect.exists()


def test_names_of_what_is_allowed_lead_nowhere_else(tmp_path: Path) -> None:
    """A dotted name would reach attributes of what is allowed, and what is built may not change it."""
    for module, name in (("torch._utils", "_rebuild_tensor_v2.__globals__"), ("builtins", "eval"), ("os", "system")):
        content = pickle.PROTO + b"\x04" + f"c{module}\n{name}\n".encode() + pickle.STOP
        with pytest.raises(pickle.UnpicklingError, match=r"^refused: "):
            torch_files._Unpickler(_stream(content)).load()
    built = pickle.PROTO + b"\x02" + b"ctorch._utils\n_rebuild_tensor_v2\n}X\x05\x00\x00\x00otherK\x01sb."
    torch_files._Unpickler(_stream(built)).load()
    assert not hasattr(torch_files._view, "other")


def _stream(content: bytes) -> object:
    import io

    return io.BytesIO(content)


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "x.bin")
    code = "import sys; from pathlib import Path; from txinspect.sources import torch_files; "
    code += "torch_files.read(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x.bin")], check=True)

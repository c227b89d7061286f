"""Generates `zerosum/v1` and `buf/validate` from the contracts, and the image that buf lints. Needs no network.

    python protos/generate.py           writes the stubs into the repository
    python protos/generate.py --check   regenerates beside it and fails if the committed stubs differ
    python protos/generate.py --lint    runs buf's STANDARD rules over the contracts

`validate.proto` comes in no wheel as text; the protovalidate wheel embeds its descriptor, which protoc takes as it is.
"""

import filecmp
import subprocess
import sys
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from protovalidate._gen.buf.validate import validate_pb

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
CONTRACTS = sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("zerosum/v1/*.proto"))
BIN = Path(sys.executable).parent
GENERATED = ("zerosum/v1", "buf/validate")


def descriptors(folder: Path) -> Path:
    """Writes the descriptors our contracts import, theirs first, and returns the file."""
    imported = FileDescriptorSet()
    for module in (descriptor_pb2, duration_pb2, field_mask_pb2, timestamp_pb2):
        module.DESCRIPTOR.CopyToProto(imported.file.add())
    imported.file.append(FileDescriptorProto.FromString(validate_pb.desc().proto.to_binary()))
    path = folder / "imported.binpb"
    path.write_bytes(imported.SerializeToString())
    return path


def protoc(folder: Path, *outputs: str, files: list[str]) -> None:
    """Runs protoc on `files`; contracts as text, everything imported as descriptors."""
    command = [sys.executable, "-m", "grpc_tools.protoc", f"--descriptor_set_in={folder / 'imported.binpb'}"]
    subprocess.run([*command, *outputs, *files], cwd=PROTOS, check=True)


def contracts_image(folder: Path) -> Path:
    """One descriptor set of everything, with comments: what buf lints and what breaking changes are held against."""
    image = folder / "image.binpb"
    include = ["-I.", "--include_imports", "--include_source_info"]
    protoc(folder, *include, f"-o{image}", files=CONTRACTS)
    return image


def generate(target: Path) -> None:
    """Writes every stub below `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        descriptors(folder)
        all_in_one = FileDescriptorSet.FromString(contracts_image(folder).read_bytes())
        (folder / "imported.binpb").write_bytes(all_in_one.SerializeToString())
        plugins = [f"--plugin=protoc-gen-{name}={BIN / f'protoc-gen-{name}'}" for name in ("mypy", "mypy_grpc")]
        messages = [f"--python_out={target}", f"--mypy_out=quiet:{target}"]
        services = [f"--grpc_python_out={target}", f"--mypy_grpc_out=quiet:{target}"]
        protoc(folder, *plugins, *messages, files=["buf/validate/validate.proto"])
        protoc(folder, *plugins, *messages, *services, files=CONTRACTS)
    for package in ("buf", *GENERATED):
        doc = '"""Generated from protos/ by protos/generate.py. Do not edit."""\n'
        (target / package / "__init__.py").write_text(doc)


def differing() -> list[str]:
    """Names of generated files that are not as the contracts say."""
    with tempfile.TemporaryDirectory() as name:
        fresh = Path(name)
        generate(fresh)
        names = {str(path.relative_to(fresh)) for package in GENERATED for path in (fresh / package).glob("*.py*")}
        known = {str(path.relative_to(ROOT)) for package in GENERATED for path in (ROOT / package).glob("*.py*")}
        same = filecmp.cmpfiles(fresh, ROOT, sorted(names & known), shallow=False)[0]
        return sorted((names | known) - set(same))


def lint() -> int:
    """Runs `buf lint` on the image; its own exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        descriptors(folder)
        image = contracts_image(folder)
        command = [str(BIN / "buf"), "lint", str(image), "--path", "zerosum/v1"]
        config = ["--config", str(ROOT / "buf.yaml")]
        return subprocess.run([*command, *config], check=False).returncode


if __name__ == "__main__":
    if "--lint" in sys.argv:
        sys.exit(lint())
    if "--check" in sys.argv:
        sys.exit("\n".join(["stubs differ from protos/; run `make protos`:", *differing()]) if differing() else 0)
    generate(ROOT)

"""Pack the files of onnxruntime-web that ``drfpn export --format web`` writes.

    npm pack onnxruntime-web@1.30.0
    pip download --no-deps onnxruntime==1.30.0  # and unzip it: the npm package has no license texts
    python scripts/pack_onnxruntime_web.py onnxruntime-web-1.30.0.tgz onnxruntime

A new version: change ``INTEGRITY`` (``npm view onnxruntime-web dist.integrity``) and ``RUNTIME_VERSION``.
"""

import base64
import hashlib
import io
import lzma
import sys
import tarfile
from pathlib import Path

from drfpn.export.web import RUNTIME_ARCHIVE

INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
BUILDS = {"ort.wasm.min": "ort-wasm-simd-threaded", "ort.webgpu.min": "ort-wasm-simd-threaded.asyncify"}
"""WebAssembly module by API. The one for GPUs is five times as slow on CPUs, so that both are needed."""
LICENSES = ("LICENSE", "ThirdPartyNotices.txt")


def main(tarball: Path, licenses: Path) -> None:
    digest = hashlib.sha512(tarball.read_bytes()).digest()
    if f"sha512-{base64.b64encode(digest).decode()}" != INTEGRITY:
        sys.exit(f"{tarball} is not the package that INTEGRITY names")
    files = {name: (licenses / name).read_bytes() for name in LICENSES}
    with tarfile.open(tarball) as package:
        for api, module in BUILDS.items():
            for name in (f"{api}.mjs", f"{module}.mjs", f"{module}.wasm"):
                stream = package.extractfile(f"package/dist/{name}")
                assert stream is not None
                # some servers do not know .mjs as JavaScript, and browsers refuse modules of another type
                files[name.replace(".mjs", ".js")] = stream.read()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": 64 * 2**20}]
    RUNTIME_ARCHIVE.write_bytes(lzma.compress(packed.getvalue(), filters=filters))
    print(f"{RUNTIME_ARCHIVE}: {RUNTIME_ARCHIVE.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

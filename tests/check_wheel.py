"""Assert what the wheel holds: exactly the five packages, their configurations and typing marks."""

from __future__ import annotations

import sys
import zipfile

PACKAGES = {"data", "simulators", "surrogates", "experiments", "understudy"}


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    packages = {name for name in top if not name.endswith(".dist-info")}
    assert packages == PACKAGES, f"expected {sorted(PACKAGES)} at the top of {wheel}, got {sorted(packages)}"
    for package in PACKAGES:
        assert f"{package}/py.typed" in names, f"{package}/py.typed is missing from {wheel}"
    for path in (
        "experiments/conf/train.yaml",
        "experiments/conf/base/stage.yaml",
        "experiments/conf/screen.yaml",
        "surrogates/shipped/organic/.understudy.sha256",
        "surrogates/shipped/organic/weights/note.json",
    ):
        assert path in names, f"{path} is missing from {wheel}"
    print(f"{wheel}: {len(names)} files, top level {sorted(packages)}")


if __name__ == "__main__":
    main(sys.argv[1])

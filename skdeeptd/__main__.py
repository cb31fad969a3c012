"""Print the installed versions and a small demonstration: ``python -m skdeeptd``."""

import argparse
import platform
import re
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV

from skdeeptd import DeepTDRegressor, __version__
from skdeeptd._optional import EXTRAS, installation
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity
from skdeeptd.plotting import KernelDisplay

NEEDED = ["scikit-learn", "numpy", "scipy", "joblib"]
PICTURE = "skdeeptd_kernels.png"
SIZES, N_TRAIN, N_TEST, NOISE = (10, 10, 10), 200, 1000, 0.1


def version(package: str) -> str | None:
    """Return the installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def installed() -> Iterator[str]:
    """Yield lines with the versions of the package, its dependencies and its extras."""
    needed = ", ".join(f"{package} {version(package)}" for package in NEEDED)
    yield f"skdeeptd {__version__}, Python {platform.python_version()}, {needed}"
    yield "optional parts:"
    for extra, requirements in EXTRAS.items():
        packages = {r: re.split(r"[^\w-]", r, maxsplit=1)[0] for r in requirements}
        versions = {package: version(package) for package in packages.values()}
        missing = [r for r, package in packages.items() if versions[package] is None]
        if missing:
            yield f"  {extra:6} missing: {installation(missing)}"
        else:
            found = ", ".join(f"{name} {value}" for name, value in versions.items())
            yield f"  {extra:6} {found}"


def demonstrate() -> tuple[list[str], DeepTDRegressor]:
    """Fit a network to data of a known network; return lines of text and the model."""
    X, y, kernels = make_patch_cnn_regression(
        N_TRAIN + N_TEST, SIZES, noise=NOISE, random_state=0, return_kernels=True
    )
    train, test = slice(N_TRAIN), slice(N_TRAIN, None)
    ridge = RidgeCV(np.logspace(-2, 5, 15)).fit(X[train], y[train])
    moment = DeepTDRegressor(SIZES, polish=False).fit(X[train], y[train])
    begin = time.perf_counter()
    model = DeepTDRegressor(SIZES, random_state=0).fit(X[train], y[train])
    seconds = time.perf_counter() - begin
    lines = [
        f"a simulated network: {X.shape[1]} features, kernel sizes {SIZES}, relu, "
        f"noise of {NOISE:.0%}; {N_TRAIN} samples",
        f"{'':34}R2 on {N_TEST} others   |cosine| with the true kernels",
    ]
    for name, fitted in {
        "ridge regression": ridge,
        "DeepTD, the moment alone": moment,
        f"DeepTD, fitted ({1e3 * seconds:.0f} ms)": model,
    }.items():
        cosines = ""
        if fitted is not ridge:
            cosines = "  ".join(
                f"{c:.4f}" for c in kernel_similarity(fitted.kernels_, kernels)
            )
        r2 = fitted.score(X[test], y[test])
        lines.append(f"  {name:32}{r2:15.4f}   {cosines}".rstrip())
    return lines, model


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the versions and the demonstration; draw the kernels with ``--plot``."""
    parser = argparse.ArgumentParser(prog="python -m skdeeptd", description=__doc__)
    parser.add_argument(
        "--plot",
        metavar="FILE",
        nargs="?",
        const=PICTURE,
        help=f"draw the learned kernels to a new file, {PICTURE} if none is named",
    )
    options = parser.parse_args(arguments)
    if options.plot and Path(options.plot).exists():
        parser.error(f"{options.plot} exists; name another file, or delete this one")
    lines, model = demonstrate()
    print("\n".join([*installed(), "", *lines]))
    if options.plot:
        KernelDisplay.from_estimator(model).figure_.savefig(options.plot)
        print(f"kernels with their 95 % bands: {options.plot}")


if __name__ == "__main__":
    main()

"""What is installed, and a small demonstration: ``python -m skdeeptd``."""

import argparse
import platform
import time
from importlib import metadata

import numpy as np
from sklearn.linear_model import RidgeCV

from skdeeptd import DeepTDRegressor, __version__
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity
from skdeeptd.plotting import KernelDisplay

NEEDED = ["scikit-learn", "numpy", "scipy", "joblib"]
OPTIONAL = {
    "plot": ["matplotlib"],
    "dask": ["dask", "distributed"],
    "torch": ["torch"],
    "onnx": ["onnx", "onnxruntime", "skl2onnx"],
    "skops": ["skops"],
}
SIZES, N_TRAIN, N_TEST, NOISE = (10, 10, 10), 200, 1000, 0.1


def version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def installed():
    """Lines on the versions of the package, of what it needs, and of its extras."""
    needed = ", ".join(f"{package} {version(package)}" for package in NEEDED)
    yield f"skdeeptd {__version__}, Python {platform.python_version()}, {needed}"
    yield "optional parts:"
    for extra, packages in OPTIONAL.items():
        versions = {package: version(package) for package in packages}
        missing = [package for package, found in versions.items() if found is None]
        if missing:
            advice = f'python -m pip install "skdeeptd[{extra}]"'
            yield f"  {extra:6} {', '.join(missing)} missing: {advice}"
        else:
            found = ", ".join(f"{name} {value}" for name, value in versions.items())
            yield f"  {extra:6} {found}"


def demonstrate():
    """Lines on a planted network that is learned again, and the fitted model."""
    X, y, kernels = make_patch_cnn_regression(
        N_TRAIN + N_TEST, SIZES, noise=NOISE, random_state=0
    )
    train, test = slice(N_TRAIN), slice(N_TRAIN, None)
    ridge = RidgeCV(np.logspace(-2, 5, 15)).fit(X[train], y[train])
    moment = DeepTDRegressor(SIZES, polish=False).fit(X[train], y[train])
    begin = time.perf_counter()
    model = DeepTDRegressor(SIZES, random_state=0).fit(X[train], y[train])
    seconds = time.perf_counter() - begin
    lines = [
        f"a planted network: {X.shape[1]} features, kernel sizes {SIZES}, relu, "
        f"noise of {NOISE:.0%}; {N_TRAIN} samples",
        f"{'':34}R2 on {N_TEST} others   |cosine| with the planted kernels",
    ]
    for name, fitted in {
        "ridge regression": ridge,
        "DeepTD, the moment alone": moment,
        f"DeepTD, polished ({1e3 * seconds:.0f} ms)": model,
    }.items():
        cosines = ""
        if fitted is not ridge:
            cosines = "  ".join(
                f"{c:.4f}" for c in kernel_similarity(fitted.kernels_, kernels)
            )
        r2 = fitted.score(X[test], y[test])
        lines.append(f"  {name:32}{r2:15.4f}   {cosines}".rstrip())
    return lines, model


def main(arguments=None):
    """Print what is installed, and the demonstration; draw it where that is asked."""
    parser = argparse.ArgumentParser(prog="python -m skdeeptd", description=__doc__)
    parser.add_argument("--plot", metavar="FILE", help="draw the learned kernels")
    options = parser.parse_args(arguments)
    lines, model = demonstrate()
    print("\n".join([*installed(), "", *lines]))
    if options.plot:
        KernelDisplay.from_estimator(model).figure_.savefig(options.plot)
        print(f"kernels with their 95 % bands: {options.plot}")


if __name__ == "__main__":
    main()
